"""Runs the model: tokens in, logits out. Keys and values are kept in slots."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from rapport.common.model_spec import ModelSpec
from rapport.service.engine.kv.device import DeviceKeyValues
from rapport.service.engine.kv.host import HostKeyValues, KeyValues
from rapport.service.engine.kv.prefix_store import SlotMemory
from rapport.service.engine.runtime.providers import Provider
from rapport.service.engine.sampling.arrays import Floats
from rapport.service.engine.sampling.logits import Logits
from rapport.service.engine.speculative.drafter import MAX_DRAFT_TOKENS

# The longest slice of a prompt that runs in one step: longer ones are no faster per token.
MAX_SLICE_TOKENS = 256


class Runner(Protocol):
    """What the engine needs from a model."""

    slots: int
    memory: SlotMemory | None
    """The slots' contents, if the host can reach them."""

    def decode(self, tokens: Sequence[int], pasts: Sequence[int]) -> Logits:
        """Runs one token in each of the slots 0 to n - 1, n from 1 to `slots` + 1.

        `pasts` says how many tokens each slot holds; each then holds one more. Returns
        logits [n, vocabulary], valid until the next call.
        """

    def prefill(self, slot: int, tokens: Sequence[int], past: int) -> Logits:
        """Runs up to `MAX_SLICE_TOKENS` tokens in one slot that holds `past`.

        Returns the last token's logits [1, vocabulary], valid until the next call.
        """

    def verify(self, slot: int, tokens: Sequence[int], past: int) -> Logits:
        """Runs up to `MAX_DRAFT_TOKENS` + 1 tokens in one slot that holds `past`.

        Returns the logits after each of them [tokens, vocabulary], valid until the next call.
        """

    def copy(self, source: int, target: int, length: int) -> None:
        """Copies the first `length` tokens of a slot to another."""

    def exchange(self, one: int, one_length: int, other: int, other_length: int) -> None:
        """Exchanges the contents of two slots."""

    def release(self, slot: int, length: int, kept: int = 0) -> None:
        """Frees the memory of the first `length` tokens of a slot, except the first `kept`.

        Also frees what a rejected draft left after them: up to `MAX_DRAFT_TOKENS` tokens.
        """


class OnnxRunner:
    """Runs a model folder with ONNX Runtime. For one thread.

    Bindings are made once for each set of slots; a step then only writes into the input
    buffers that they hold. Prompts run in `prefill_session` if it is given; it must have the
    same inputs and outputs.
    """

    def __init__(
        self,
        session: ort.InferenceSession,
        key_values: KeyValues,
        prefill_session: ort.InferenceSession | None = None,
    ) -> None:
        spec = key_values.spec
        self.slots = key_values.slots
        self.memory: SlotMemory | None = (
            key_values if isinstance(key_values, HostKeyValues) else None
        )
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
        self._tokens = np.zeros(max(MAX_SLICE_TOKENS, rows), np.int64)
        self._ends = np.zeros(rows, np.int32)
        self._total = np.zeros((), np.int32)
        self._rows = np.arange(max(MAX_SLICE_TOKENS, rows), dtype=np.int64)
        self._logits = np.zeros((max(rows, MAX_DRAFT_TOKENS + 1), spec.vocab_size), np.float32)
        self._decode_binding = cache(self._bind_decode)
        self._prefill_binding = cache(self._bind_prefill)
        self._verify_binding = cache(self._bind_verify)

    def decode(self, tokens: Sequence[int], pasts: Sequence[int]) -> Floats:
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


def load_runner(
    folder: Path,
    spec: ModelSpec,
    provider: Provider,
    slots: int,
    threads: int,
    *,
    prefill_folder: Path | None = None,
) -> OnnxRunner:
    """Opens the graph of a model folder. Takes seconds.

    Args:
        folder: the model folder.
        spec: its `model.json`.
        provider: where to run.
        slots: how many sequences can run at once.
        threads: how many to compute with; 0 means one for each core.
        prefill_folder: the same model with other weights, for prompts.

    Raises:
        ValueError: the two models cannot share keys and values.
    """
    prefill_session = None
    if prefill_folder is not None:
        _check_compatible(spec, ModelSpec.read(prefill_folder))
        prefill_session = _open_session(prefill_folder, provider, threads)
    session = _open_session(folder, provider, threads)
    on_device = provider.name == "cuda"
    key_values = DeviceKeyValues(spec, slots) if on_device else HostKeyValues(spec, slots)
    return OnnxRunner(session, key_values, prefill_session)


def _check_compatible(spec: ModelSpec, other: ModelSpec) -> None:
    """Raises ValueError unless both models can share keys and values."""
    may_differ = {"precision", "created", "source", "sizes"}
    one, two = (each.model_dump(exclude=may_differ) for each in (spec, other))
    if one != two or spec.source.get("gguf_sha256") != other.source.get("gguf_sha256"):
        raise ValueError(
            f"{other.id} ({other.precision}) cannot compute the prompts of "
            f"{spec.id} ({spec.precision}): their keys and values differ"
        )


def _open_session(folder: Path, provider: Provider, threads: int) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 4  # fatal only: errors are raised too, and would break a JSON log
    options.enable_mem_pattern = False  # shapes change from step to step
    # Threads that spin while they wait would take CPU time that gRPC and the gateway need.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return ort.InferenceSession(
        folder / "model.onnx", options, providers=provider.session_providers
    )
