"""The stub from inside a process that runs over it: its counters, and what its memory holds."""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray


class Counters(NamedTuple):
    """Calls since the last `reset`, and bytes; in the order of `enum Kind` in runtime.c."""

    uploads: int
    upload_bytes: int
    downloads: int
    download_bytes: int
    pageable_downloads: int
    copies: int
    """Within the device."""
    copy_bytes: int
    mallocs: int
    used_bytes: int
    peak_bytes: int
    launches: int
    captures: int
    graph_launches: int
    synchronizations: int


@cache
def _library() -> ctypes.CDLL:
    library = ctypes.CDLL("libcudart.so.13")
    for copy in (library.stub_read, library.stub_write):
        copy.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]
    return library


def reset() -> None:
    """Sets the counters to zero, and takes a sticky error away."""
    _library().stub_reset()


def counters() -> Counters:
    """The counters."""
    numbers = (ctypes.c_uint64 * len(Counters._fields))()
    _library().stub_counters(numbers)
    return Counters(*numbers)


def read(address: int, shape: tuple[int, ...], type_: DTypeLike) -> NDArray[Any]:
    """What lies at an address of the device; it is no copy that the counters count."""
    array = np.empty(shape, type_)
    _library().stub_read(address, array.ctypes.data, array.nbytes)
    return array


def write(address: int, array: NDArray[Any]) -> None:
    """Puts an array at an address of the device, as a kernel would."""
    array = np.ascontiguousarray(array)
    _library().stub_write(address, array.ctypes.data, array.nbytes)
