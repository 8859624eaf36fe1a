"""What a step on a GPU reads, in one buffer."""

from __future__ import annotations

from itertools import accumulate

import numpy as np
import onnxruntime as ort

from rapport.common.model_spec import ModelSpec
from rapport.service.engine.runtime.providers import Provider
from rapport.service.engine.runtime.upload_buffer import UploadBuffer, aligned
from rapport.service.engine.sampling.packed_settings import PackedSettings, Uploaded


class StepInputs:
    """What a step reads, on the host and on the device: one upload copies all of it.

    Behind it is what the candidates after the step depend on, if that is known.

    Args:
        shape: how many sequences a step has, and how many new tokens each of them, at most.
        rows: for how many tokens logits are wanted, at most.
        settings_bytes: room for what the candidates depend on.
        session: one that runs on the device.
        provider: where the device's copy is.
    """

    def __init__(
        self,
        shape: tuple[int, int],
        rows: int,
        settings_bytes: int,
        session: ort.InferenceSession,
        provider: Provider,
    ) -> None:
        sequences, tokens = shape
        parts = {"tokens": (np.int64, sequences * tokens), "ends": (np.int32, sequences)}
        parts["rows"] = (np.int64, rows)
        sizes = [aligned(np.dtype(type_).itemsize * count) for type_, count in parts.values()]
        *offsets, self._size = accumulate(sizes, initial=0)
        self._offsets = dict(zip(parts, offsets, strict=True))
        self._buffer = UploadBuffer(self._size + settings_bytes, session, provider)
        self._device = provider.device
        self.tokens, self.ends, self.rows = (
            self._buffer.array(self._offsets[name], (count,), type_)
            for name, (type_, count) in parts.items()
        )
        self.total = np.zeros((), np.int32)
        """Tokens of the longest sequence, including the new ones. Runs read it on the host."""

    def bind(
        self, binding: ort.IOBinding, spec: ModelSpec, shape: tuple[int, int], rows: int
    ) -> None:
        """Binds the inputs of a step with `shape` [sequences, tokens] and logits of `rows`."""
        names = spec.inputs
        sizes = {"tokens": shape, "ends": (shape[0],), "rows": (rows,)}
        inputs = {"tokens": names.input_ids, "ends": names.seqlens_k, "rows": names.logit_rows}
        for part, name in inputs.items():
            type_ = getattr(self, part).dtype.type
            address = self._buffer.address + self._offsets[part]
            binding.bind_input(name, *self._device, type_, sizes[part], address)
        total = ort.OrtValue.ortvalue_from_numpy(self.total)
        binding.bind_ortvalue_input(names.total_sequence_length, total)

    def upload(self, packed: PackedSettings | None = None) -> Uploaded | None:
        """Copies the inputs to the device, with settings. Returns where these are."""
        if packed is None:
            self._buffer.upload(self._size)
            return None
        packed.write(self._buffer, self._size)
        self._buffer.upload(self._size + packed.size)
        return Uploaded(packed, self._buffer.address + self._size)
