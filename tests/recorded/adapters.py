"""All that the recorded test takes from the program: a renaming changes these lines alone."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

# The launcher: starts `rapport serve` with settings by their names, on free ports.
from bench.server import Target, rapport

PROGRAM = Path(sys.executable).with_name("rapport")
REAL_MODEL = "smollm2-135m-instruct"

__all__ = ["Target", "command", "import_file", "rapport", "real_folder"]


def command(
    arguments: Sequence[str], variables: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs `rapport` to its end, with none of the caller's settings."""
    inherited = {name: text for name, text in os.environ.items() if name[:8] != "RAPPORT_"}
    return subprocess.run(
        [str(PROGRAM), *arguments],
        env=inherited | dict(variables or {}),
        check=False,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )


def real_folder() -> Path:
    """The folder of the default model, of which only tokenizer and template are wanted."""
    cache = os.environ.get("RAPPORT_CACHE")
    return _imported(REAL_MODEL, {"RAPPORT_CACHE": cache} if cache else {})


def import_file(gguf: Path, cache: Path) -> Path:
    """The folder of a GGUF file's model, imported in float32 into a cache of its own."""
    return _imported(str(gguf), {"RAPPORT_CACHE": str(cache)}, "--precision", "float32")


def _imported(model: str, variables: Mapping[str, str], *flags: str) -> Path:
    done = command(["models", "import", model, *flags], variables)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return Path(done.stdout.strip().splitlines()[-1])
