"""Runs the model on a GPU. Keys, values and inputs stay in its memory.

What a step reads lies at addresses that never change. One upload brings it there, and with it what
is known of the tokens that will be drawn from its logits, which stay on the device too. A decode
step runs a bucket of rows, whose work is captured once as a graph and then replayed: the rows that
are too many are those of slots that do not decode, and write behind what these hold. So does a
draft run a bucket of tokens, of which those that are too many are written behind it: a draft is for
a sequence that is alone, and that is in the first slot.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import count
from statistics import median
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from rapport.service.engine.kv.device import DeviceKeyValues
from rapport.service.engine.kv.prefix_store import SlotMemory
from rapport.service.engine.pace import GPU_PACE
from rapport.service.engine.runtime.device import device_zeros, run_on_device, run_options
from rapport.service.engine.runtime.providers import Provider
from rapport.service.engine.runtime.step_inputs import StepInputs
from rapport.service.engine.sampling.candidate_selector import CandidateSelector, DeviceBuffer
from rapport.service.engine.sampling.logits import DeviceLogits, StepSettings
from rapport.service.engine.sampling.packed_settings import PackedSettings, Uploaded
from rapport.service.engine.speculative.drafter import MAX_DRAFT_TOKENS

MEASURED_STEPS = 3
# Drafts run as so many tokens, including the one before them.
DRAFT_SIZES = (2, 4, 8, MAX_DRAFT_TOKENS + 1)


@dataclass(frozen=True, slots=True)
class Bucket:
    """Steps of up to so many rows, or tokens of one row: their inputs, and what they run with."""

    inputs: StepInputs
    binding: ort.IOBinding
    options: ort.RunOptions


class DeviceRunner:
    """Runs a model folder with ONNX Runtime on a GPU. For one thread.

    Prompts run in `prefill_session` if it is given; it must have the same inputs and outputs.
    """

    def __init__(
        self,
        session: ort.InferenceSession,
        key_values: DeviceKeyValues,
        provider: Provider,
        prefill_session: ort.InferenceSession | None = None,
    ) -> None:
        self.pace = GPU_PACE
        self.slots = key_values.slots
        self.slot_tokens = key_values.capacity
        self.memory: SlotMemory | None = self
        self.kept_slots: range | None = range(self.slots + 1, key_values.shape[0])
        self._session = session
        self._prefill_session = prefill_session or session
        self._key_values = key_values
        self._spec = key_values.spec
        self._provider = provider
        rows = self.slots + 1  # a decode step may include the spare slot
        self._held = [0] * key_values.shape[0]
        """Up to how many tokens each slot holds: a row that is too many writes behind them."""
        self._sizes = bucket_sizes(rows)
        self._bucket = cache(self._new_bucket)
        self._graphs = count(1)
        shape = max(rows, MAX_DRAFT_TOKENS + 1), self._spec.vocab_size
        logits = device_zeros(shape, np.float32, provider)
        self._logits = DeviceBuffer(logits, *shape, provider)
        self._selector = CandidateSelector(self._logits)
        self._slice = self._new_inputs(1, self.pace.slice_tokens, MAX_DRAFT_TOKENS + 1)
        self._no_graph = run_options()

    def capture(self) -> None:
        """Runs a step of each size, so that all graphs are captured and all memory is taken.

        Then measures how long steps take.
        """
        tokens = min(self.pace.slice_tokens, self.slot_tokens)
        self.prefill(0, [0] * tokens, 0)
        for size in self._sizes:
            self.decode([0] * size, [0] * size)
        for size in DRAFT_SIZES:
            self.verify(0, [0] * size, 0)
        self._selector.warm_up()
        rows = self.slots + 1
        self.pace = self.pace.measured(
            seconds(partial(self.decode, [0], [0])),
            seconds(partial(self.decode, [0] * rows, [0] * rows)),
            rows,
            seconds(partial(self.prefill, 0, [0] * tokens, 0)) / tokens,
        )
        self._held = [0] * len(self._held)

    def decode(
        self, tokens: Sequence[int], pasts: Sequence[int], settings: StepSettings | None = None
    ) -> DeviceLogits:
        rows = len(tokens)
        if rows == 0:
            raise ValueError("a decode step needs at least one row")
        size = next(size for size in self._sizes if size >= rows)
        bucket, ends = self._bucket(size, 1), [*pasts, *self._held[rows:size]]
        packed = None if settings is None else self._selector.packed(settings())
        uploaded = self._run_bucket(bucket, tokens, ends, packed)
        self._held[:rows] = [past + 1 for past in pasts]
        return DeviceLogits(self._selector, 0, rows, uploaded)

    def prefill(self, slot: int, tokens: Sequence[int], past: int) -> DeviceLogits:
        return self._run_slice(slot, tokens, past, [len(tokens) - 1], prompt=True)

    def verify(self, slot: int, tokens: Sequence[int], past: int) -> DeviceLogits:
        size = next(size for size in DRAFT_SIZES if size >= len(tokens))
        if slot != 0 or past + size > self.slot_tokens:
            return self._run_slice(slot, tokens, past, range(len(tokens)))
        self._run_bucket(self._bucket(1, size), tokens, [past + size - 1])
        self._held[slot] = past + len(tokens)
        return DeviceLogits(self._selector, 0, len(tokens))

    def copy(self, source: int, target: int, length: int, start: int = 0) -> None:
        self._key_values.copy(source, target, length, start)
        self._held[target] = length

    def exchange(self, one: int, one_length: int, other: int, other_length: int) -> None:
        self._key_values.exchange(one, one_length, other, other_length)
        self._held[one], self._held[other] = other_length, one_length

    def release(self, slot: int, length: int, kept: int = 0) -> None:
        self._key_values.release(slot, length, kept)
        self._held[slot] = kept

    def read(self, slot: int, start: int, count: int) -> NDArray[Any]:
        return self._key_values.read(slot, start, count)

    def write(self, slot: int, start: int, tokens: NDArray[Any], count: int) -> None:
        self._key_values.write(slot, start, tokens, count)
        self._held[slot] = start + count

    def _run_bucket(
        self,
        bucket: Bucket,
        tokens: Sequence[int],
        ends: Sequence[int],
        packed: PackedSettings | None = None,
    ) -> Uploaded | None:
        """Runs a bucket with some tokens, and zeros for the rest. Says where the settings are."""
        inputs = bucket.inputs
        inputs.tokens[: len(tokens)], inputs.tokens[len(tokens) :] = tokens, 0
        inputs.ends[:] = ends
        uploaded = inputs.upload(packed)
        run_on_device(self._session, bucket.binding, bucket.options)
        return uploaded

    def _run_slice(
        self,
        slot: int,
        tokens: Sequence[int],
        past: int,
        rows: Sequence[int],
        *,
        prompt: bool = False,
    ) -> DeviceLogits:
        """Runs tokens in one slot. Returns the logits after those in `rows`."""
        session = self._prefill_session if prompt else self._session
        inputs, length, end = self._slice, len(tokens), past + len(tokens)
        inputs.tokens[:length] = tokens
        inputs.ends[0] = end - 1
        inputs.rows[: len(rows)] = rows
        inputs.total[...] = end
        inputs.upload()
        binding = self._new_binding(session, inputs, slot, (1, length), len(rows))
        run_on_device(session, binding, self._no_graph)
        self._held[slot] = end
        return DeviceLogits(self._selector, 0, len(rows))

    def _new_bucket(self, rows: int, tokens: int) -> Bucket:
        settings_bytes = self._selector.max_packed_bytes(rows) if tokens == 1 else 0
        inputs = self._new_inputs(rows, tokens, rows * tokens, settings_bytes)
        inputs.rows[:] = range(rows * tokens)
        # A graph keeps what it was captured with: this must do for all lengths.
        inputs.total[...] = self.slot_tokens
        binding = self._new_binding(self._session, inputs, 0, (rows, tokens), rows * tokens)
        return Bucket(inputs, binding, run_options(graph=next(self._graphs)))

    def _new_inputs(
        self, sequences: int, tokens: int, rows: int, settings_bytes: int = 0
    ) -> StepInputs:
        shape = sequences, tokens
        return StepInputs(shape, rows, settings_bytes, self._session, self._provider)

    def _new_binding(
        self,
        session: ort.InferenceSession,
        inputs: StepInputs,
        slot: int,
        shape: tuple[int, int],
        rows: int,
    ) -> ort.IOBinding:
        """Binds inputs of `shape` [sequences, tokens], and the slots from `slot` on."""
        binding = session.io_binding()
        inputs.bind(binding, self._spec, shape, rows)
        self._key_values.bind(binding, slot, shape[0])
        start, shape = self._logits.value.data_ptr(), (rows, self._spec.vocab_size)
        name, device = self._spec.outputs.logits, self._provider.device
        binding.bind_output(name, *device, np.float32, shape, start)
        return binding


def seconds(run: Callable[[], object]) -> float:
    """How long a step takes: the median of a few."""
    times = []
    for _ in range(MEASURED_STEPS):
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    return median(times)


def bucket_sizes(rows: int) -> list[int]:
    """Powers of two below `rows`, and `rows`."""
    return [*(1 << power for power in range((rows - 1).bit_length())), rows]
