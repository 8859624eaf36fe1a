"""The service with a model that takes no time: `python -m bench.instant`, for bench.delivery.

All but the model is what is served: vocabulary, sampler, text, pieces, gRPC. The settings are
those of the service, and RAPPORT_BENCH_STEP is the seconds that a step takes.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from rapport.common.model_spec import ModelSpec
from rapport.service import __main__ as process
from rapport.service.engine import engine
from rapport.service.engine.kv.prefix_store import SlotMemory
from rapport.service.engine.pace import CPU_PACE
from rapport.service.engine.runtime.providers import Provider
from rapport.service.engine.sampling.arrays import Floats
from rapport.service.engine.sampling.logits import StepSettings

STEP = "RAPPORT_BENCH_STEP"
# Common pieces of English in the vocabulary of the default model, none of them special.
FIRST, KINDS = 1000, 1024


class InstantRunner:
    """Generates one common token after the other. A step sleeps for `step` seconds."""

    def __init__(self, slots: int, vocabulary: int, step: float) -> None:
        self.pace = CPU_PACE
        self.slots = slots
        self.slot_tokens = sys.maxsize
        self.kept_slots: range | None = None
        self.memory: SlotMemory | None = None
        self._step = step
        self._logits = np.zeros((slots, vocabulary), np.float32)
        self._said = np.full(slots, FIRST)
        self._rows = np.arange(slots)

    def decode(
        self,
        tokens: Sequence[int],
        pasts: Sequence[int],
        settings: StepSettings | None = None,  # noqa: ARG002 - its logits are on the host
    ) -> Floats:
        count = len(tokens)
        time.sleep(self._step)
        rows = self._rows[:count]
        self._logits[rows, self._said[:count]] = 0
        self._said[:count] = FIRST + np.array(pasts) % KINDS
        self._logits[rows, self._said[:count]] = 1
        return self._logits[:count]

    def prefill(self, slot: int, tokens: Sequence[int], past: int) -> Floats:
        del slot
        return self.decode(tokens[-1:], [past])

    def copy(self, source: int, target: int, length: int, start: int = 0) -> None:
        """Does nothing: slots are empty."""

    def exchange(self, one: int, one_length: int, other: int, other_length: int) -> None:
        """Does nothing: slots are empty."""

    def release(self, slot: int, length: int, kept: int = 0) -> None:
        """Does nothing: slots are empty."""


def instant_runner(
    _folder: Path, spec: ModelSpec, _provider: Provider, slots: int, *_rest: object, **_: object
) -> InstantRunner:
    """Replaces `load_runner`; the options for running a real model are ignored."""
    return InstantRunner(slots, spec.vocab_size, float(os.environ.get(STEP, "0")))


if __name__ == "__main__":
    # The service has no setting for this, as it serves real models only.
    vars(engine)["load_runner"] = instant_runner
    sys.exit(process.main())
