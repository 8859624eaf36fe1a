"""The time to draw a row's token, by sampling options: `python -m bench.sampling`.

The rows are logits of a model after different prompts. Prints the median CPU time of a row, in
microseconds, which other processes on the machine change little.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence

import numpy as np

from bench.options import bounded
from rapport.common.model_spec import ModelSpec
from rapport.models.cache.catalog import DEFAULT_MODEL
from rapport.models.importer import ensure_any
from rapport.models.onnx.precision import PRECISIONS, cpu_precision
from rapport.service.engine.request import SamplingParams
from rapport.service.engine.runtime.load import load_runner
from rapport.service.engine.runtime.providers import CPU
from rapport.service.engine.sampling.arrays import Floats
from rapport.service.engine.sampling.logits import copied
from rapport.service.engine.sampling.logprobs import observe
from rapport.service.engine.sampling.sampler import Sampler, draw_all

ROWS = 16
PROMPT = range(1000, 1100)

OPTIONS = {
    "temperature 0": SamplingParams(temperature=0),
    "temperature 1": SamplingParams(),
    "temperature 0.7": SamplingParams(temperature=0.7),
    "top_k 40": SamplingParams(temperature=0.7, top_k=40),
    "top_p 0.9": SamplingParams(temperature=0.7, top_p=0.9),
    "top_k 40, top_p 0.95, min_p 0.05": SamplingParams(0.8, top_k=40, top_p=0.95, min_p=0.05),
    "min_p 0.05": SamplingParams(temperature=0.7, min_p=0.05),
    "typical_p 0.9": SamplingParams(temperature=0.7, typical_p=0.9),
    "mirostat_target 5": SamplingParams(mirostat_target=5),
    "repetition_penalty 1.1": SamplingParams(repetition_penalty=1.1),
    "frequency_penalty 0.5": SamplingParams(frequency_penalty=0.5),
    "logit_bias": SamplingParams(logit_bias={1000: 1.0}),
}

Run = Callable[[Floats], object]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures on this machine's CPU."""
    parser = argparse.ArgumentParser("bench.sampling", description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=bounded(int, 1, 10_000), default=50, help="%(default)s")
    parser.add_argument("--model", default=DEFAULT_MODEL, help="%(default)s")
    options = parser.parse_args(arguments)
    logits = rows_of_logits(options.model)
    for name, run in runs(logits.shape[1]).items():
        taken = [seconds(run, logits.copy()) for _ in range(options.rounds)]
        print(f"| {name} | {np.median(taken) / ROWS * 1e6:.0f} |", flush=True)


def rows_of_logits(model: str) -> Floats:
    """Logits after prompts of one token to as many as there are rows: [rows, vocabulary]."""
    folder = ensure_any(model, list(dict.fromkeys([cpu_precision(), *PRECISIONS])))
    spec = ModelSpec.read(folder)
    runner = load_runner(folder, spec, CPU, slots=1, threads=0)
    prompts = (PROMPT[:length] for length in range(1, ROWS + 1))
    return np.concatenate([copied(runner.prefill(0, prompt, 0)) for prompt in prompts])


def runs(size: int) -> dict[str, Run]:
    """For each name, a function that draws a token of each row, or finds log probabilities."""

    def drawing(sampling: SamplingParams) -> Run:
        samplers = [Sampler(sampling, PROMPT, row, size) for row in range(ROWS)]
        return lambda logits: draw_all(logits, samplers)

    def observing(count: int) -> Run:
        return lambda logits: [observe(row, 0, count) for row in logits]

    ways = {name: drawing(sampling) for name, sampling in OPTIONS.items()}
    return ways | {f"top_logprobs {count}": observing(count) for count in (0, 5)}


def seconds(run: Run, logits: Floats) -> float:
    began = time.thread_time()
    run(logits)
    return time.thread_time() - began


if __name__ == "__main__":
    main()
