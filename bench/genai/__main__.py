"""Rapport beside onnxruntime-genai on the same weights: `python -m bench.genai`.

genai has no server: its side is a loop around the library, without HTTP and without text, and
its eight streams begin and end together, as its engine for the CPU wants them to. Rapport's side
is what `bench.versus` measures over HTTP. Both run in turn; medians and ratios are printed.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import venv
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import orjson

from bench.genai.folder import write
from bench.options import bounded
from rapport.models.importer import ensure
from rapport.models.onnx.precision import cpu_precision

MODEL = "smollm2-135m-instruct"
ENVIRONMENT = Path(".build/genai")
LOOP = Path(__file__).parent / "loop.py"
HIGHER_IS_BETTER = {"one-stream": True, "8-streams": True, "cold-prompt": False}

Figures = dict[str, float]


def main() -> None:
    """Measures both in turn and prints a table."""
    parser = argparse.ArgumentParser("python -m bench.genai", description=__doc__)
    parser.add_argument("--rounds", type=bounded(int, 1, 1000), default=5, help="(%(default)s)")
    rounds = parser.parse_args().rounds
    python = environment()
    with TemporaryDirectory() as folder:
        write(ensure(MODEL, cpu_precision()), Path(folder), os.cpu_count() or 1)
        pairs = [(ours(), theirs(python, folder)) for _ in range(rounds)]
    print("| workload | Rapport, over HTTP | onnxruntime-genai, in its process | ratio |")
    print("|---|--:|--:|--:|")
    for name, higher in HIGHER_IS_BETTER.items():
        one, other = (median(side[name] for side in sides) for sides in zip(*pairs, strict=True))
        ratio = one / other if higher else other / one
        print(f"| {name} | {one:.3g} | {other:.3g} | {ratio:.2f} |")


def environment() -> Path:
    """The Python of an environment with onnxruntime-genai, which is created on first use."""
    python = ENVIRONMENT / "bin" / "python"
    if not python.exists():
        venv.create(ENVIRONMENT, with_pip=True)
        wanted = ["onnxruntime-genai", "numpy"]
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *wanted], check=True)
    return python


def ours() -> Figures:
    """One round of `bench.versus`, with Rapport alone."""
    with TemporaryDirectory() as out:
        command = [sys.executable, "-m", "bench.versus", "--servers", "rapport", "--rounds", "1"]
        chosen = ["--only", ",".join(HIGHER_IS_BETTER), "--no-plots", "--out", out]
        subprocess.run([*command, *chosen], check=True, stdout=subprocess.DEVNULL)
        rows = orjson.loads((Path(out) / "versus.json").read_bytes())["rows"]
    # The first figure of a workload is the one that genai's loop can measure.
    return {row["workload"]: row["rapport"] for row in reversed(rows)}


def theirs(python: Path, folder: str) -> Figures:
    """One round of genai's loop."""
    done = subprocess.run([python, LOOP, folder], check=True, capture_output=True)
    figures: Figures = orjson.loads(done.stdout)
    return figures


if __name__ == "__main__":
    main()
