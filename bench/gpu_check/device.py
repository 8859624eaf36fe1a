"""What the driver says of the device, and what the engine makes of it."""

from __future__ import annotations

import ctypes

import onnxruntime as ort

from bench.gpu_check.subject import Measured, Subject
from rapport.service.engine.runtime.cuda import cuda_obstacles, device_memory
from rapport.service.engine.runtime.providers import choose_provider

# The name that the stub of CUDA gives its device.
STUB_NAME = "Stub"
NAME_BYTES = 256
# As the driver numbers the attributes of a device.
CAPABILITY = (75, 76)


def measure(_: Subject) -> Measured:
    """The device, or all that keeps it from being used."""
    if obstacles := cuda_obstacles():
        return {"obstacles": obstacles}
    name, number = ctypes.create_string_buffer(NAME_BYTES), ctypes.c_int(0)
    driver = ctypes.CDLL("libcuda.so.1")
    driver.cuDeviceGetName(name, NAME_BYTES, 0)
    capability = []
    for attribute in CAPABILITY:
        driver.cuDeviceGetAttribute(ctypes.byref(number), attribute, 0)
        capability.append(str(number.value))
    driver.cuDriverGetVersion(ctypes.byref(number))
    return {
        "obstacles": [],
        "name": name.value.decode(),
        "capability": ".".join(capability),
        "driver": f"{number.value // 1000}.{number.value % 1000 // 10}",
        "onnxruntime": ort.__version__,
        "memory_bytes": device_memory(0).total,
        "provider": choose_provider("auto").name,
    }
