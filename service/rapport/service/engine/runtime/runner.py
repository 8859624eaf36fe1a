"""Runs the model: tokens in, logits out. Keys and values are kept in slots."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, Protocol

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from rapport.service.engine.kv.host import HostKeyValues
from rapport.service.engine.kv.prefix_store import SlotMemory
from rapport.service.engine.pace import CPU_PACE, Pace
from rapport.service.engine.sampling.arrays import Floats
from rapport.service.engine.sampling.logits import Logits, StepSettings
from rapport.service.engine.speculative.drafter import MAX_DRAFT_TOKENS


class Runner(Protocol):
    """What the engine needs from a model."""

    pace: Pace
    slots: int
    slot_tokens: int
    """Tokens that a slot holds at most."""
    memory: SlotMemory | None
    """The slots' contents, if the host can reach them."""

    kept_slots: range | None
    """Slots that no sequence uses, for prefixes; None where the host's memory is for them."""

    def decode(
        self, tokens: Sequence[int], pasts: Sequence[int], settings: StepSettings | None = None
    ) -> Logits:
        """Runs one token in each of the slots 0 to n - 1, n from 1 to `slots` + 1.

        `pasts` says how many tokens each slot holds; each then holds one more. Returns
        logits [n, vocabulary], valid until the next call. Where they stay on a device, the step
        brings it `settings`; elsewhere these are not asked for.
        """

    def prefill(self, slot: int, tokens: Sequence[int], past: int) -> Logits:
        """Runs up to `pace.slice_tokens` tokens in one slot that holds `past`.

        Returns the last token's logits [1, vocabulary], valid until the next call.
        """

    def verify(self, slot: int, tokens: Sequence[int], past: int) -> Logits:
        """Runs up to `MAX_DRAFT_TOKENS` + 1 tokens in one slot that holds `past`.

        Returns the logits after each of them [tokens, vocabulary], valid until the next call.
        """

    def copy(self, source: int, target: int, length: int, start: int = 0) -> None:
        """Copies the tokens of a slot from `start` to `length` to another."""

    def exchange(self, one: int, one_length: int, other: int, other_length: int) -> None:
        """Exchanges the contents of two slots."""

    def release(self, slot: int, length: int, kept: int = 0) -> None:
        """Frees the memory of the first `length` tokens of a slot, except the first `kept`.

        Also frees what a rejected draft left after them: up to `MAX_DRAFT_TOKENS` tokens.
        """


class OnnxRunner:
    """Runs a model folder with ONNX Runtime on the CPU. For one thread.

    Bindings are made once for each set of slots; a step then only writes into the input
    buffers that they hold. Prompts run in `prefill_session` if it is given; it must have the
    same inputs and outputs.
    """

    def __init__(
        self,
        session: ort.InferenceSession,
        key_values: HostKeyValues,
        prefill_session: ort.InferenceSession | None = None,
    ) -> None:
        spec = key_values.spec
        self.pace = CPU_PACE
        self.slots = key_values.slots
        self.slot_tokens = key_values.capacity
        self.memory: SlotMemory | None = key_values
        self.kept_slots: range | None = None
        self.copy = key_values.copy
        self.exchange = key_values.exchange
        self.release = key_values.release
        self._session = session
        self._prefill_session = prefill_session or session
        self._key_values = key_values
        self._inputs = spec.inputs
        self._outputs = spec.outputs
        # I/O binding keeps no reference to these: they live as long as the runner.
        rows = self.slots + 1  # a decode step may include the spare slot
        self._tokens = np.zeros(max(self.pace.slice_tokens, rows), np.int64)
        self._ends = np.zeros(rows, np.int32)
        self._total = np.zeros((), np.int32)
        self._rows = np.arange(len(self._tokens), dtype=np.int64)
        self._logits = np.zeros((max(rows, MAX_DRAFT_TOKENS + 1), spec.vocab_size), np.float32)
        self._decode_binding = cache(self._bind_decode)
        self._prefill_binding = cache(self._bind_prefill)
        self._verify_binding = cache(self._bind_verify)

    def decode(
        self,
        tokens: Sequence[int],
        pasts: Sequence[int],
        settings: StepSettings | None = None,  # noqa: ARG002 - the host reads whole rows
    ) -> Floats:
        count = len(tokens)
        if count == 0:
            # GroupQueryAttention crashes the process on an empty batch.
            raise ValueError("a decode step needs at least one row")
        self._tokens[:count] = tokens
        self._ends[:count] = pasts
        self._total[...] = max(pasts) + 1
        self._session.run_with_iobinding(self._decode_binding(count))
        return self._logits[:count]

    def prefill(self, slot: int, tokens: Sequence[int], past: int) -> Floats:
        count = len(tokens)
        self._write_slice(tokens, past)
        binding = self._prefill_binding(slot)
        _bind(binding, self._inputs.input_ids, self._tokens[:count].reshape(1, count))
        _bind(binding, self._inputs.logit_rows, self._rows[count - 1 : count])
        self._prefill_session.run_with_iobinding(binding)
        return self._logits[:1]

    def verify(self, slot: int, tokens: Sequence[int], past: int) -> Floats:
        count = len(tokens)
        self._write_slice(tokens, past)
        self._session.run_with_iobinding(self._verify_binding(slot, count))
        return self._logits[:count]

    def _write_slice(self, tokens: Sequence[int], past: int) -> None:
        self._tokens[: len(tokens)] = tokens
        self._ends[0] = past + len(tokens) - 1
        self._total[...] = past + len(tokens)

    def _bind_decode(self, count: int) -> ort.IOBinding:
        binding = self._new_binding(self._session, 0, count, count)
        _bind(binding, self._inputs.input_ids, self._tokens[:count].reshape(count, 1))
        _bind(binding, self._inputs.logit_rows, self._rows[:count])
        return binding

    def _bind_prefill(self, slot: int) -> ort.IOBinding:
        return self._new_binding(self._prefill_session, slot, 1, 1)

    def _bind_verify(self, slot: int, count: int) -> ort.IOBinding:
        binding = self._new_binding(self._session, slot, 1, count)
        _bind(binding, self._inputs.input_ids, self._tokens[:count].reshape(1, count))
        _bind(binding, self._inputs.logit_rows, self._rows[:count])
        return binding

    def _new_binding(
        self, session: ort.InferenceSession, first: int, count: int, rows: int
    ) -> ort.IOBinding:
        """Binds `count` slots from `first` on, for logits of `rows` tokens."""
        binding = session.io_binding()
        _bind(binding, self._inputs.seqlens_k, self._ends[:count])
        _bind(binding, self._inputs.total_sequence_length, self._total)
        logits = ort.OrtValue.ortvalue_from_numpy(self._logits[:rows])
        binding.bind_ortvalue_output(self._outputs.logits, logits)
        self._key_values.bind(binding, first, count)
        return binding


def _bind(binding: ort.IOBinding, name: str, array: NDArray[Any]) -> None:
    """Binds an array as an input, without a copy: a run reads what the array holds by then."""
    binding.bind_ortvalue_input(name, ort.OrtValue.ortvalue_from_numpy(array))
