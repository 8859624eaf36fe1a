"""The arithmetic model of the engine's tests, computed from what lies in the stub's memory.

The tiny graph runs as it is: ONNX Runtime places, binds, copies, captures and replays, and only the
kernels do nothing. What they would do is done here from what the graph was given on the device:
each new token goes to its place in its slot, and the logits follow from all that the slot then
holds. An input that is stale, a slot that was mixed up or a row that writes where something is held
gives wrong tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto

from rapport.service.engine.kv.device import DeviceKeyValues
from rapport.service.engine.runtime.device_runner import DRAFT_SIZES, DeviceRunner
from rapport.service.engine.sampling.arrays import Bytes, Floats
from rapport.service.engine.sampling.logits import DeviceLogits, StepSettings
from rapport.service.engine.sampling.packed_settings import ALL_ALLOWED, Uploaded
from rapport.service.engine.sampling.row_candidates import RowSettings
from tests.service.engine.fake import SIZE, next_token
from tests.support.cuda_stub import stub
from tests.support.cuda_stub.observation import ObservedSession, return_inputs

SEEN = {
    "input_ids": TensorProto.INT64,
    "seqlens_k": TensorProto.INT32,
    "logit_rows": TensorProto.INT64,
}


def return_step_inputs(folder: Path) -> None:
    """Has the graph of a model folder return what a step reads."""
    path = folder / "model.onnx"
    model = onnx.load(path, load_external_data=False)
    return_inputs(model, SEEN)
    onnx.save(model, path)


class EmulatedRunner(DeviceRunner):
    """The runner of a GPU, with the arithmetic model in place of the kernels."""

    def __init__(self, session: ort.InferenceSession, *rest: Any) -> None:
        self.observed = ObservedSession(session, SEEN)
        super().__init__(self.observed, *rest)  # type: ignore[arg-type] - it has what is needed
        self.steps = 0
        self.resumed = 0
        """How many times a slot was filled from the host."""
        self.adjusted = 0
        """How many rows had several tokens whose logits are adjusted."""
        self.moved = 0
        """How many times what a sequence holds was copied to another's slot, or to a free one."""
        self.masked = 0
        """How many rows had a mask when their step began."""

    def decode(  # type: ignore[override] - on the host
        self, tokens: Sequence[int], pasts: Sequence[int], settings: StepSettings | None = None
    ) -> Floats:
        wanted = [] if settings is None else settings()
        logits = super().decode(tokens, pasts, lambda: wanted)
        assert logits.known_settings[: len(wanted)] == wanted
        if any(wanted):
            self._check_settings(logits, wanted)
        seen = self.observed.seen
        count = len(tokens)
        assert seen["input_ids"][:count, 0].tolist() == list(tokens)
        assert seen["seqlens_k"][:count].tolist() == list(pasts)
        assert seen["logit_rows"].tolist() == list(range(len(seen["input_ids"])))
        return self._logits_of(range(len(seen["input_ids"])))[:count]

    def prefill(self, slot: int, tokens: Sequence[int], past: int) -> Floats:  # type: ignore[override] - on the host
        super().prefill(slot, tokens, past)
        self._check_slice(tokens, past, [len(tokens) - 1])
        return self._logits_of([slot])

    def verify(self, slot: int, tokens: Sequence[int], past: int) -> Floats:  # type: ignore[override] - on the host
        super().verify(slot, tokens, past)
        size = self.observed.seen["input_ids"].size
        assert size == len(tokens) or (slot == 0 and size in DRAFT_SIZES)
        filling = [0] * (size - len(tokens))
        self._check_slice([*tokens, *filling], past, list(range(size)))
        self._logits_of([slot])
        return np.stack([self._row(slot, past + place + 1) for place in range(len(tokens))])

    def write(self, slot: int, start: int, tokens: NDArray[Any], count: int) -> None:
        super().write(slot, start, tokens, count)
        self.resumed += 1

    def copy(self, source: int, target: int, length: int, start: int = 0) -> None:
        super().copy(source, target, length, start)
        self.moved += max(source, target) < self.slots

    def _check_settings(self, logits: DeviceLogits, wanted: Sequence[RowSettings | None]) -> None:
        """Compares what lies on the device with what each row's next token depends on."""
        uploaded = logits._uploaded
        assert uploaded is not None
        given, masks = uploaded_settings(uploaded)
        for row, each in zip(given, wanted, strict=True):
            if each is not None:
                assert row[:, 0].tolist() == [each.temperature, np.float32(each.share), 0]
                assert set(map(tuple, row[:, 1:].T)) == set(map(tuple, each.adjustments.T))
                self.adjusted += len(each.adjustments.T) > 1
        for mask, each in zip(masks, wanted, strict=True):
            allowed = None if each is None else each.allowed
            assert (mask == (ALL_ALLOWED if allowed is None else allowed[: len(mask)])).all()
            self.masked += allowed is not None

    def _check_slice(self, tokens: Sequence[int], past: int, rows: list[int]) -> None:
        seen = self.observed.seen
        assert seen["input_ids"].tolist() == [list(tokens)]
        assert seen["seqlens_k"].tolist() == [past + len(tokens) - 1]
        assert seen["logit_rows"].tolist() == rows

    def _logits_of(self, slots: Sequence[int]) -> Floats:
        """Puts what the graph was given into the slots. Returns the logits after it."""
        self.steps += 1
        seen, rows = self.observed.seen, []
        for slot, ids, end in zip(slots, seen["input_ids"], seen["seqlens_k"], strict=True):
            put(self._key_values, slot, int(end) + 1 - len(ids), ids)
            rows.append(self._row(slot, int(end) + 1))
        return np.stack(rows)

    def _row(self, slot: int, length: int) -> Floats:
        logits = np.zeros(SIZE, np.float32)
        logits[next_token(held(self._key_values, slot, length))] = 10
        return logits


def uploaded_settings(uploaded: Uploaded) -> tuple[Floats, Bytes]:
    """What the graph of candidates would read: settings and masks, of each row."""
    packed, address = uploaded
    settings = stub.read(address, packed._shape, np.float32)
    return settings, stub.read(address + packed._mask_offset, packed._mask_shape, np.uint8)


def put(key_values: DeviceKeyValues, slot: int, start: int, tokens: Sequence[int]) -> None:
    """Writes tokens as the keys and values of all layers and heads."""
    assert 0 <= start <= start + len(tokens) <= key_values.capacity, "outside of the slot"
    size = key_values.spec.head_size
    row = np.repeat(np.asarray(tokens, key_values.type), size)
    for address in key_values._places(slot, start):
        stub.write(address, row)


def held(key_values: DeviceKeyValues, slot: int, length: int) -> list[int]:
    """The first tokens in a slot, on which all layers and heads must agree."""
    size = key_values.spec.head_size
    rows = [
        stub.read(address, (length, size), key_values.type)
        for address in key_values._places(slot, 0)
    ]
    assert all((row == rows[0][:, :1]).all() for row in rows), "layers or heads differ"
    return rows[0][:, 0].astype(int).tolist()
