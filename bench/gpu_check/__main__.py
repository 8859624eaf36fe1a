"""Checks the CUDA path on the GPU of this machine; prints a table and writes a JSON file.

Exits with 0 if all passed, 1 if something failed, 2 if the model cannot be imported, and 3 if
nothing failed but something was not measured, as over the stub of CUDA.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import orjson
from rich.table import Table

from bench.gpu_check.device import STUB_NAME
from bench.gpu_check.stages import STAGES, run
from bench.gpu_check.subject import Measured, Subject
from bench.gpu_check.verdicts import Verdict, exit_status, judge
from bench.options import bounded
from bench.progress import show_progress
from bench.report import Machine
from bench.server import end_on_sigterm
from bench.table import console
from rapport.models.errors import ModelError

DEFAULT_FILE = Path(".build/gpu-check.json")
STYLES = {"passed": "green", "failed": "bold red", "not measured": "yellow"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs all stages. Returns the exit status."""
    parser = argparse.ArgumentParser("bench.gpu_check", description=__doc__)
    add = parser.add_argument
    add("--gguf", type=Path, metavar="FILE", help="check this model, not the default one")
    add("--patience", type=bounded(float, 0.1, 100), default=1.0, help="limits times this (1)")
    add("--json", type=Path, default=DEFAULT_FILE, metavar="FILE", help="(%(default)s)")
    given = parser.parse_args(arguments)
    end_on_sigterm()
    try:
        with TemporaryDirectory() as scratch:
            found = measure(given.gguf, Path(scratch), given.patience)
    except (ModelError, OSError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    verdicts = judge(found)
    write(given.json, found, verdicts)
    console(stderr=False).print(table(verdicts))
    print(f"all figures are in {given.json}")
    return exit_status(verdicts)


def measure(gguf: Path | None, scratch: Path, patience: float) -> dict[str, Measured]:
    """What each stage has found. Where no GPU can be used, there is only one stage."""
    first, *others = STAGES
    show_progress(first)
    found = {first: run(first, Subject({}), patience)}
    if found[first].get("obstacles", True):
        return found
    subject = Subject.of(gguf, scratch)
    subject = replace(subject, computes=found[first]["name"] != STUB_NAME)
    for name in others:
        show_progress(name)
        found[name] = run(name, subject, patience)
    return found


def write(path: Path, found: dict[str, Measured], verdicts: Sequence[Verdict]) -> None:
    """Writes all figures, and what was made of them."""
    content = {
        "machine": asdict(Machine()),
        "measured": found,
        "verdicts": [asdict(verdict) for verdict in verdicts],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(orjson.dumps(content, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))


def table(verdicts: Sequence[Verdict]) -> Table:
    """A line for each verdict."""
    lines = Table("check", "wanted", "measured", "verdict")
    for each in verdicts:
        style = STYLES[each.outcome]
        lines.add_row(each.check, each.wanted, each.measured, f"{each.outcome}", style=style)
    return lines


if __name__ == "__main__":
    sys.exit(main())
