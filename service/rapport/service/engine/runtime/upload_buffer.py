"""Memory that the host fills and a device reads."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from rapport.service.engine.runtime.device import device_errors, device_zeros
from rapport.service.engine.runtime.providers import Provider

# Kernels may read several values at once, from addresses that are multiples of this.
ALIGNMENT_BYTES = 256


class UploadBuffer:
    """Bytes on the host and on a device, at addresses that stay: one upload copies the first ones.

    Args:
        size: how many bytes, at most.
        session: one that runs on the device.
        provider: the device.
    """

    def __init__(self, size: int, session: ort.InferenceSession, provider: Provider) -> None:
        self._host = np.zeros(size, np.uint8)
        self._device = device_zeros(self._host.shape, np.uint8, provider)
        self._session = session
        self._provider = provider
        self._first_bytes = cache(self._new_first_bytes)
        self.address = self._device.data_ptr()
        """Where it begins on the device."""

    def array(self, offset: int, shape: tuple[int, ...], type_: type) -> NDArray[Any]:
        """What lies at an offset, on the host."""
        return np.ndarray(shape, type_, self._host.data, offset)

    def upload(self, size: int) -> None:
        """Copies the first `size` bytes to the device. A few things are kept for each size."""
        with device_errors():
            self._first_bytes(size).update_inplace(self._host[:size])

    def _new_first_bytes(self, size: int) -> ort.OrtValue:
        """The device's first bytes, as a value of their own: ONNX Runtime copies whole ones.

        Nothing runs: to bind an output is its only way, from Python, to name what memory holds.
        """
        binding = self._session.io_binding()
        name = self._session.get_outputs()[0].name
        binding.bind_output(name, *self._provider.device, np.uint8, (size,), self.address)
        (value,) = binding.get_outputs()
        return value


def aligned(size: int, grain: int = ALIGNMENT_BYTES) -> int:
    """The next multiple of a grain."""
    return -(-size // grain) * grain
