"""The time of a step in each precision: `python -m bench.precisions`.

The models run in turn, so that a machine whose pace changes is unfair to none. Prints the lower
quartile of each run's times, in ms. Imports what is not in the cache.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence

import numpy as np

from bench.options import bounded
from rapport.common.model_spec import ModelSpec
from rapport.models.cache.catalog import DEFAULT_MODEL
from rapport.models.importer import ensure
from rapport.models.onnx.precision import PRECISIONS
from rapport.service.engine.runtime.load import load_runner
from rapport.service.engine.runtime.providers import CPU
from rapport.service.engine.runtime.runner import Runner

CONTEXT = 100
ROWS = (1, 2, 4, 8, 16)
SLICES = (8, 16, 64, 256)
QUARTILE = 25

Run = Callable[[Runner], object]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures on this machine's CPU."""
    parser = argparse.ArgumentParser("bench.precisions", description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("precisions", nargs="*", type=known, default=["int4", "int8"], help="%(default)s")
    add("--rounds", type=bounded(int, 1, 1000), default=40, help="%(default)s")
    given = parser.parse_args(arguments)
    runners = [loaded(precision) for precision in given.precisions]
    print("| | " + " | ".join(given.precisions) + " |")
    print("|---|" + "--:|" * len(runners))
    for name, run in runs().items():
        # The first run creates the bindings that the others use.
        _, *taken = ([seconds(run, each) for each in runners] for _ in range(given.rounds + 1))
        quartiles = np.percentile(taken, QUARTILE, axis=0) * 1e3
        print(f"| {name} | " + " | ".join(f"{each:.1f}" for each in quartiles) + " |", flush=True)


def known(precision: str) -> str:
    if precision not in PRECISIONS:
        raise argparse.ArgumentTypeError(f"{precision!r} is none of {', '.join(PRECISIONS)}")
    return precision


def loaded(precision: str) -> Runner:
    folder = ensure(DEFAULT_MODEL, precision)
    return load_runner(folder, ModelSpec.read(folder), CPU, slots=max(ROWS), threads=0)


def runs() -> dict[str, Run]:
    """Decode steps and slices of a prompt, each after `CONTEXT` tokens."""

    def decode(rows: int) -> Run:
        return lambda runner: runner.decode([5] * rows, [CONTEXT] * rows)

    def prefill(tokens: int) -> Run:
        return lambda runner: runner.prefill(0, range(10, 10 + tokens), CONTEXT)

    steps = {f"{rows} row{'s' if rows > 1 else ''}": decode(rows) for rows in ROWS}
    return steps | {f"slice of {tokens}": prefill(tokens) for tokens in SLICES}


def seconds(run: Run, runner: Runner) -> float:
    began = time.perf_counter()
    run(runner)
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
