"""Generates with onnxruntime-genai, in an environment of its own that has nothing else.

`python loop.py FOLDER` prints the figures of each workload as a line of JSON.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import numpy as np
import onnxruntime_genai as genai  # in its own environment

# Ids of plain words, and of nothing that ends a turn.
WORDS = (100, 40_000)


def run(model: Any, batch: int, prompt: int, output: int) -> tuple[float, float]:
    """Seconds to the first token, and tokens per second of all, the first ones included.

    `batch` random prompts of `prompt` tokens are generated together, `output` tokens each.
    """
    tokens = np.random.default_rng().integers(*WORDS, (batch, prompt)).astype(np.int32)
    options = genai.GeneratorParams(model)
    length = prompt + output
    options.set_search_options(
        max_length=length, min_length=length, batch_size=batch, do_sample=False
    )
    began = time.perf_counter()
    generator = genai.Generator(model, options)
    generator.append_tokens(tokens)
    generator.generate_next_token()
    first = time.perf_counter() - began
    for _ in range(output - 1):
        generator.generate_next_token()
    return first, batch * output / (time.perf_counter() - began)


def main() -> None:
    model = genai.Model(sys.argv[1])
    run(model, 1, 32, 8)
    figures = {
        "one-stream": run(model, 1, 50, 128)[1],
        "8-streams": run(model, 8, 62, 64)[1],
        "cold-prompt": run(model, 1, 2000, 4)[0],
    }
    print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    main()
