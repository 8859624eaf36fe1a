"""Where the model runs: on a GPU with CUDA if possible, on the CPU otherwise."""

from __future__ import annotations

import ctypes
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import onnxruntime as ort

log = logging.getLogger(__name__)

ProviderName = Literal["cpu", "cuda"]


class ProviderError(Exception):
    """The requested provider cannot run here."""


@dataclass(frozen=True, slots=True)
class Provider:
    """A provider, by its name."""

    name: ProviderName

    @property
    def session_providers(self) -> list[str]:
        """The providers to request from ONNX Runtime, in order of preference."""
        fallback = ["CPUExecutionProvider"]
        return ["CUDAExecutionProvider", *fallback] if self.name == "cuda" else fallback


CPU = Provider("cpu")
CUDA = Provider("cuda")


def choose_provider(wanted: Literal["auto", "cuda", "cpu"]) -> Provider:
    """The provider to run on. `auto` falls back to the CPU with one line in the log.

    Raises:
        ProviderError: `cuda` was requested and cannot run here; the text says why.
    """
    if wanted == "cpu":
        return CPU
    obstacle = cuda_obstacle()
    if obstacle is None:
        return CUDA
    if wanted == "cuda":
        raise ProviderError(f"provider cuda cannot run here: {obstacle}")
    log.info("running on the CPU: %s", obstacle)
    return CPU


def cuda_obstacle() -> str | None:
    """Why CUDA cannot run here, or None if it can.

    This is checked before CUDA is requested, because ONNX Runtime logs an error for each
    library that is missing.
    """
    if "CUDAExecutionProvider" not in ort.get_available_providers():
        return "this build of ONNX Runtime has no CUDA provider"
    return driver_obstacle() or _library_obstacle()


def driver_obstacle() -> str | None:
    """Why the NVIDIA driver cannot be used, or None if it can."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return "no NVIDIA driver was found"
    count = ctypes.c_int(0)
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return "the NVIDIA driver does not start"
    return None if count.value else "no GPU was found"


def _library_obstacle() -> str | None:
    ort.preload_dlls(directory="")  # the CUDA libraries that pip installed
    folder = Path(ort.__file__).parent / "capi"
    try:
        ctypes.CDLL(str(folder / "libonnxruntime_providers_shared.so"), ctypes.RTLD_GLOBAL)
        ctypes.CDLL(str(folder / "libonnxruntime_providers_cuda.so"))
    except OSError as error:
        return f"a CUDA library is missing ({error}); install with the extra 'cuda'"
    return None
