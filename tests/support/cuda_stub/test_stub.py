"""The stub's memory is a device's: a program on the host cannot read it by accident."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rapport.service.engine.runtime.device import device_zeros
from rapport.service.engine.runtime.providers import CUDA, choose_provider
from tests.support.cuda_stub import stub

pytestmark = pytest.mark.cuda_stub


def test_the_host_may_not_touch_what_is_on_the_device() -> None:
    """Its addresses are mapped without access: to read them ends the process."""
    choose_provider("cuda")
    address = device_zeros((5,), np.float32, CUDA).data_ptr()
    assert access(address) == "---s"
    assert stub.read(address, (5,), np.float32).tolist() == [0] * 5


def access(address: int) -> str:
    """How this process may use an address."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        (first, last), (how, *_) = line.split()[0].split("-"), line.split()[1:]
        if int(first, 16) <= address < int(last, 16):
            return how
    raise AssertionError("not mapped")
