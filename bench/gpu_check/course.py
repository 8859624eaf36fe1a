"""Steps of every kind on any runner, so that the logits of two runners can be compared."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from rapport.service.engine.runtime.runner import Runner
from rapport.service.engine.sampling.arrays import Floats
from rapport.service.engine.sampling.logits import Logits, copied

SLOTS = 8
# One after the other in the same slot, each behind those before.
SLICES = (16, 1, 16, 255, 256)
# Of the other slots. The first is long: a GPU computes it in one slice and a CPU in several.
PROMPTS = (1000, 5, 42, 79, 116, 153, 190)
STEPS = 32
# Fewer than any bucket has.
DRAFT_TOKENS = 6
TEXT_TOKENS = 1100
# The bits of 8 in float16 or bfloat16.
EIGHT = {np.dtype(np.float16): np.float16(8), np.dtype(np.uint16): np.uint16(0x4100)}


def course(runner: Runner, text: Sequence[int]) -> Iterator[tuple[str, Floats]]:
    """Yields the kind of each step, and its logits [rows, vocabulary]."""
    lengths = [0, *PROMPTS]
    for count in SLICES:
        tokens, past = text[lengths[0] : lengths[0] + count], lengths[0]
        yield "slices", copied(runner.prefill(0, tokens, past))
        lengths[0] += count
    for slot, count in enumerate(PROMPTS, start=1):
        yield "prompts", copied(prompt(runner, slot, text[slot : slot + count]))
    runner.exchange(0, lengths[0], 3, lengths[3])
    lengths[0], lengths[3] = lengths[3], lengths[0]
    runner.copy(1, 2, lengths[1])
    lengths[2] = lengths[1]
    for step in range(STEPS):
        rows = step % SLOTS + 1
        logits = runner.decode(text[step : step + rows], lengths[:rows])
        yield "decode steps", copied(logits)
        lengths[:rows] = [length + 1 for length in lengths[:rows]]
    yield "drafts", copied(runner.verify(0, text[:DRAFT_TOKENS], lengths[0]))


def prompt(runner: Runner, slot: int, tokens: Sequence[int]) -> Logits:
    """Computes a prompt, in as few slices as the runner allows. Returns the logits after it."""
    size = runner.pace.slice_tokens
    for start in range(0, len(tokens), size):
        logits = runner.prefill(slot, tokens[start : start + size], start)
    return logits


def fill(runner: Runner, tokens: int) -> None:
    """Has all slots hold what earlier sequences could have left: finite values, none of them 0."""
    if runner.memory is None:
        return
    for slot in range(runner.slots):
        values = runner.memory.read(slot, 0, tokens)
        values[:] = EIGHT[values.dtype]
        runner.memory.write(slot, 0, values, tokens)
