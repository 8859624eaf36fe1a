"""Coverage-guided fuzzing: `python -m tests.fuzz [target...] [--seconds 60]`.

Each target runs in a process of its own. Inputs that reached new code are kept under
.build/fuzz for the next run. An input that fails is written there too, and ends the run with its
traceback.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import subprocess
import sys
from pathlib import Path

import atheris

FOLDER = Path(".build/fuzz")
# The limits of one input. The memory is that of the whole process.
MAX_INPUT_S, MAX_MEMORY_MIB = 20, 3000
MAX_INPUT_BYTES = 64 << 10
INSTRUMENTED = ["rapport.gateway", "rapport.service", "rapport.models", "jinja2", "gguf"]


def main() -> int:
    """Returns 1 if a target failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("targets", nargs="*")
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--only", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.only:
        fuzz(given.only, given.seconds)
    targets = importlib.import_module("tests.fuzz.targets").TARGETS
    failed = [name for name in given.targets or targets if not passes(name, given.seconds)]
    print(f"trouble: {', '.join(failed)}" if failed else "no trouble", flush=True)  # noqa: T201 - a program
    return int(bool(failed))


def passes(name: str, seconds: int) -> bool:
    only = ["--only", name, "--seconds", str(seconds)]
    return subprocess.run([sys.executable, "-m", "tests.fuzz", *only], check=False).returncode == 0


def fuzz(name: str, seconds: int) -> None:
    """Fuzzes one target, and ends the process."""
    # Coverage counts only in modules that are imported here for the first time.
    with atheris.instrument_imports(include=INSTRUMENTED):
        target = importlib.import_module("tests.fuzz.targets").TARGETS[name]
    seeds = importlib.import_module("tests.fuzz.seeds").seeds()[name]
    corpus = FOLDER / name
    corpus.mkdir(parents=True, exist_ok=True)
    for seed in seeds:
        (corpus / hashlib.sha256(seed).hexdigest()).write_bytes(seed)
    options = [
        f"-max_total_time={seconds}",
        f"-timeout={MAX_INPUT_S}",
        f"-rss_limit_mb={MAX_MEMORY_MIB}",
        f"-max_len={MAX_INPUT_BYTES}",
        f"-artifact_prefix={corpus}-",
        "-print_final_stats=1",
    ]
    atheris.Setup([name, *options, str(corpus)], target)
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
