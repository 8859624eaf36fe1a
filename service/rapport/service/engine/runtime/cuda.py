"""What the CUDA provider needs: a driver, a device that its kernels are for, and libraries."""

from __future__ import annotations

import ctypes
import io
import logging
import os
from contextlib import redirect_stdout
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

log = logging.getLogger(__name__)

# The devices that the wheel has kernels for. It has no PTX to compile for others; a device runs
# the kernels of its own major version up to its minor one.
KERNEL_CAPABILITIES = ((7, 5), (8, 0), (8, 6), (8, 9), (9, 0), (12, 0))
# What the driver says where there is no device, or all are hidden.
_NO_DEVICE = 100
# Attributes of a device, as the driver numbers them.
_CAPABILITY_MAJOR, _CAPABILITY_MINOR = 75, 76


class _NoGpuError(Exception):
    """There is nothing to run on, whatever else may be missing."""


class DeviceMemory(NamedTuple):
    """Memory of a device in bytes."""

    free: int
    total: int


def cuda_obstacles(device_id: int = 0) -> list[str]:
    """All that keeps CUDA from running on a device here; nothing if it can run.

    This is checked before CUDA is requested, because ONNX Runtime logs an error for each
    library that is missing.
    """
    try:
        driver, count = _open_driver()
    except _NoGpuError as error:
        return [str(error)]
    if "CUDAExecutionProvider" not in _onnxruntime().get_available_providers():
        return ["this build of ONNX Runtime has no CUDA provider"]
    checks = (_version_obstacle(driver), _device_obstacle(driver, device_id, count))
    return [*(obstacle for obstacle in checks if obstacle is not None), *_library_obstacles()]


def device_memory(device_id: int) -> DeviceMemory:
    """The memory of a device. Where none runs yet, this starts CUDA on it.

    Raises:
        RuntimeError: the device does not answer.
    """
    runtime = ctypes.CDLL(f"libcudart.so.{_cuda_major()}")
    free, total = ctypes.c_size_t(0), ctypes.c_size_t(0)
    status = runtime.cudaSetDevice(device_id)
    status = status or runtime.cudaMemGetInfo(ctypes.byref(free), ctypes.byref(total))
    if status != 0:
        raise RuntimeError(f"CUDA failure {status}: device {device_id} does not tell its memory")
    return DeviceMemory(free.value, total.value)


def _onnxruntime() -> ModuleType:
    """ONNX Runtime: 15 MiB and a fifth of a second, which a supervisor without a GPU is spared."""
    return import_module("onnxruntime")


def _open_driver() -> tuple[ctypes.CDLL, int]:
    """The driver, and how many devices it has."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        raise _NoGpuError("no NVIDIA driver was found") from None
    count = ctypes.c_int(0)
    status = driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count))
    if status not in {0, _NO_DEVICE}:
        raise _NoGpuError("the NVIDIA driver does not start")
    if count.value == 0:
        raise _NoGpuError(f"no GPU was found{_hidden()}")
    return driver, count.value


def _hidden() -> str:
    """What is said of devices that are missing, if some may be hidden."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return "" if visible is None else f"; CUDA_VISIBLE_DEVICES is {visible!r}"


def _cuda_major() -> int:
    """The version of CUDA that the wheel is built for."""
    return int(_onnxruntime().cuda_version.split(".")[0])


def _version_obstacle(driver: ctypes.CDLL) -> str | None:
    version = ctypes.c_int(0)
    driver.cuDriverGetVersion(ctypes.byref(version))
    major, minor = version.value // 1000, version.value % 1000 // 10
    if major >= _cuda_major():
        return None
    return f"the NVIDIA driver is for CUDA {major}.{minor}, ONNX Runtime needs {_cuda_major()}"


def _device_obstacle(driver: ctypes.CDLL, device_id: int, count: int) -> str | None:
    if device_id >= count:
        return f"there is no device {device_id}: {count} found, counted from 0{_hidden()}"
    major, minor = (
        _attribute(driver, device_id, number) for number in (_CAPABILITY_MAJOR, _CAPABILITY_MINOR)
    )
    if any(major == known and minor >= least for known, least in KERNEL_CAPABILITIES):
        return None
    known = ", ".join(f"{one}.{other}" for one, other in KERNEL_CAPABILITIES)
    return (
        f"device {device_id} has compute capability {major}.{minor}, "
        f"ONNX Runtime has kernels for {known}"
    )


def _attribute(driver: ctypes.CDLL, device_id: int, number: int) -> int:
    device, value = ctypes.c_int(0), ctypes.c_int(0)
    driver.cuDeviceGet(ctypes.byref(device), device_id)
    driver.cuDeviceGetAttribute(ctypes.byref(value), number, device)
    return value.value


def _library_obstacles() -> list[str]:
    """A line for each library that the provider needs and that is not there."""
    with redirect_stdout(io.StringIO()) as printed:
        _onnxruntime().preload_dlls(directory="")  # the CUDA libraries that pip installed
    log.debug("preloading CUDA's libraries: %s", printed.getvalue())
    major = _cuda_major()
    names = (
        *(f"lib{name}.so.{major}" for name in ("cudart", "cublas", "cublasLt")),
        "libcurand.so.10",
    )
    missing = [name for name in names if not _loads(name)]
    if missing:
        return [f"{name} is missing; install with the extra 'cuda'" for name in missing]
    folder = Path(str(_onnxruntime().__file__)).parent / "capi"
    try:
        ctypes.CDLL(str(folder / "libonnxruntime_providers_shared.so"), ctypes.RTLD_GLOBAL)
        ctypes.CDLL(str(folder / "libonnxruntime_providers_cuda.so"))
    except OSError as error:
        return [f"a CUDA library cannot be used ({error})"]
    return []


def _loads(name: str) -> bool:
    try:
        ctypes.CDLL(name)
    except OSError:
        return False
    return True
