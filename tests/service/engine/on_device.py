"""The arithmetic model with its logits where a device would have them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnxruntime as ort

from rapport.service.engine.runtime.providers import CPU
from rapport.service.engine.runtime.upload_buffer import UploadBuffer
from rapport.service.engine.sampling.arrays import Floats
from rapport.service.engine.sampling.candidate_selector import CandidateSelector, DeviceBuffer
from rapport.service.engine.sampling.logits import DeviceLogits, StepSettings
from rapport.service.engine.sampling.packed_settings import Uploaded
from rapport.service.engine.speculative.drafter import MAX_DRAFT_TOKENS
from tests.service.engine.fake import SIZE, FakeRunner


class CountingSelector(CandidateSelector):
    """Counts the rows that come to the host."""

    fetched = 0

    def rows(self, places: Sequence[int]) -> Floats:
        self.fetched += len(places)
        return super().rows(places)


class DeviceFakeRunner(FakeRunner):
    """Its device is the CPU provider."""

    def __init__(self, slots: int = 4) -> None:
        super().__init__(slots)
        self._memory = np.full((max(slots, MAX_DRAFT_TOKENS) + 1, SIZE), np.nan, np.float32)
        value = ort.OrtValue.ortvalue_from_numpy(self._memory)
        buffer = DeviceBuffer(value, *self._memory.shape, CPU)
        self.selector = CountingSelector(buffer)
        size = self.selector.max_packed_bytes(slots + 1)
        self._settings = UploadBuffer(size, self.selector._row_session, CPU)

    def decode(
        self, tokens: Sequence[int], pasts: Sequence[int], settings: StepSettings | None = None
    ) -> DeviceLogits:
        logits = self._kept(super().decode(tokens, pasts))
        packed = None if settings is None else self.selector.packed(settings())
        if packed is None:
            return logits
        packed.write(self._settings, 0)
        self._settings.upload(packed.size)
        uploaded = Uploaded(packed, self._settings.address)
        return DeviceLogits(self.selector, 0, len(logits), uploaded)

    def prefill(self, slot: int, tokens: Sequence[int], past: int) -> DeviceLogits:
        return self._kept(super().prefill(slot, tokens, past))

    def verify(self, slot: int, tokens: Sequence[int], past: int) -> DeviceLogits:
        return self._kept(super().verify(slot, tokens, past))

    def _kept(self, rows: Floats) -> DeviceLogits:
        self._memory[: len(rows)] = rows
        return DeviceLogits(self.selector, 0, len(rows))
