"""The `rapport` command."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from rapport.common.process import python_module

USAGE = """\
usage: rapport COMMAND [OPTIONS]

commands:
  serve     import the model if needed, then run service and gateway
  service   run the gRPC service alone
  gateway   run the REST gateway alone
  models    import models into the cache, list them, print their paths
  keys      create, list and remove API keys
  chat      talk to a running service in the terminal
  top       live view of a running server

`rapport COMMAND --help` shows a command's options, `rapport --version` the version.
"""

DISTRIBUTION = "rapport-server"
# Each runs as a process of its own, so that a command loads only what it imports.
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
    """Replaces this process by the command. Returns 2 if there is no such command."""
    command, *rest = (sys.argv[1:] if arguments is None else [*arguments]) or ["--help"]
    if "--version" in (command, *rest[:1]):
        from importlib.metadata import version  # noqa: PLC0415 - it takes longer than all else here

        sys.stdout.write(f"rapport {version(DISTRIBUTION)}\n")
        return 0
    if command in MODULES:
        os.execv(sys.executable, [*python_module(MODULES[command]), *rest])  # noqa: S606 - no shell is wanted
    helped = command in {"-h", "--help", "help"}
    (sys.stdout if helped else sys.stderr).write(USAGE)
    return 0 if helped else 2


if __name__ == "__main__":
    sys.exit(main())
