"""The `rapport` command."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from rapport.common.process import python_module

USAGE = """\
usage: rapport COMMAND [OPTIONS]

commands:
  serve     prepare the model, then run service and gateway
  service   run the gRPC service alone
  gateway   run the REST gateway alone
  models    import models into the cache, list them, say where they are
  keys      make API keys, list them, take them away
  chat      talk to a running service in the terminal
  top       see what a running server does, live

`rapport COMMAND --help` shows a command's options.
"""

# Run as modules of their own, so that what one imports is not loaded for another.
MODULES = {
    "serve": "rapport.cli.serve",
    "service": "rapport.service",
    "gateway": "rapport.gateway",
    "models": "rapport.models",
    "keys": "rapport.cli.keys",
    "chat": "rapport.cli.chat",
    "top": "rapport.cli.top",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Becomes the command that is named. Returns 2 when none is."""
    command, *rest = (sys.argv[1:] if arguments is None else [*arguments]) or ["--help"]
    if command in MODULES:
        os.execv(sys.executable, [*python_module(MODULES[command]), *rest])  # noqa: S606 - no shell is wanted
    helped = command in {"-h", "--help", "help"}
    (sys.stdout if helped else sys.stderr).write(USAGE)
    return 0 if helped else 2


if __name__ == "__main__":
    sys.exit(main())
