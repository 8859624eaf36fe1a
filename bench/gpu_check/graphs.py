"""CUDA graphs beside the same steps without them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from bench.gpu_check.course import prompt
from bench.gpu_check.loading import load_on_gpu
from bench.gpu_check.subject import Measured, Subject
from bench.gpu_check.timing import median_ms
from rapport.service.engine.kv.device import DeviceKeyValues
from rapport.service.engine.runtime.device_runner import DRAFT_SIZES, DeviceRunner, bucket_sizes
from rapport.service.engine.runtime.load import GRAPH_FILE
from rapport.service.engine.runtime.memory_plan import MemoryLimits
from rapport.service.engine.runtime.providers import choose_provider
from rapport.service.engine.runtime.runner import Runner
from rapport.service.engine.runtime.session import open_session
from rapport.service.engine.sampling.arrays import Floats
from rapport.service.engine.sampling.logits import Logits, copied

Step = Callable[[Runner, int], Logits]

SLOTS = 16
CONTEXT = 100
STEPS = 5
# Of each of the two runners.
LIMITS = MemoryLimits(kv_bytes=2**30)


def measure(subject: Subject) -> Measured:
    """Of each bucket: whether a graph gives the bits of the same step without one; the times."""
    provider, spec = choose_provider("cuda"), subject.spec()
    graph = load_on_gpu(subject, SLOTS, LIMITS)
    session = open_session(subject.folder() / GRAPH_FILE, provider)
    key_values = DeviceKeyValues(spec, SLOTS, graph.slot_tokens, provider)
    eager = DeviceRunner(session, key_values, provider)
    text = subject.text(CONTEXT + SLOTS)
    for runner in (graph, eager):
        for slot in range(SLOTS):
            prompt(runner, slot, text[slot : slot + CONTEXT])
    found = {}
    for name, step in steps(text).items():
        given, wanted = (several(partial(step, runner)) for runner in (graph, eager))
        times = [median_ms(partial(step, runner, 0)) for runner in (graph, eager)]
        if subject.computes:
            found[name] = {
                "equal": bool(np.array_equal(given, wanted)),
                "max_difference": float(np.abs(given - wanted).max()),
                "graph_ms": times[0],
                "eager_ms": times[1],
            }
    return found


def steps(text: Sequence[int]) -> dict[str, Step]:
    """A step of each bucket, at a number of tokens behind the prompts."""

    def decode(rows: int) -> Step:
        return lambda runner, at: runner.decode(text[:rows], [CONTEXT + at] * rows)

    def verify(tokens: int) -> Step:
        return lambda runner, at: runner.verify(0, text[:tokens], CONTEXT + at)

    decoding = {f"{size} rows": decode(size) for size in bucket_sizes(SLOTS + 1)}
    return decoding | {f"a draft of {size}": verify(size) for size in DRAFT_SIZES}


def several(step: Callable[[int], Logits]) -> Floats:
    """The logits of a few steps."""
    return np.concatenate([copied(step(at)) for at in range(STEPS)])
