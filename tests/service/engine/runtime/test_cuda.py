"""What keeps CUDA from running, told over a stub of CUDA that lacks one thing after another."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from rapport.service.engine.runtime import cuda
from rapport.service.engine.runtime.cuda import cuda_obstacles, device_memory
from tests.support.cuda_stub.build import build

pytestmark = pytest.mark.cuda_stub

HIDDEN = "CUDA_VISIBLE_DEVICES"
KNOWN = "ONNX Runtime has kernels for 7.5, 8.0, 8.6, 8.9, 9.0, 12.0"


def test_nothing_stands_in_the_way_of_a_device_that_is_known(
    capfd: pytest.CaptureFixture[str],
) -> None:
    """A driver, a device and the libraries are there; nothing is printed to find that out."""
    assert cuda_obstacles() == []
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize(
    ("settings", "device_id", "obstacle"),
    [
        ({"INIT": "999"}, 0, "the NVIDIA driver does not start"),
        ({"DEVICES": "0"}, 0, "no GPU was found"),
        ({"DEVICES": "2"}, 2, "there is no device 2: 2 found, counted from 0"),
        ({"DRIVER": "12080"}, 0, "the NVIDIA driver is for CUDA 12.8, ONNX Runtime needs 13"),
        ({"CAPABILITY": "10.0"}, 0, f"device 0 has compute capability 10.0, {KNOWN}"),
        ({"CAPABILITY": "7.0"}, 0, f"device 0 has compute capability 7.0, {KNOWN}"),
        (
            {"DEVICES": "2", "CAPABILITY": "9.0,7.0"},
            1,
            f"device 1 has compute capability 7.0, {KNOWN}",
        ),
    ],
)
def test_each_obstacle_has_its_own_line(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], device_id: int, obstacle: str
) -> None:
    """A driver or a device that does not do is named, with what would."""
    for name, value in settings.items():
        monkeypatch.setenv(f"CUDA_STUB_{name}", value)
    assert cuda_obstacles(device_id) == [obstacle]


def test_all_obstacles_are_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever mends one sees the others too."""
    monkeypatch.setenv("CUDA_STUB_DRIVER", "12080")
    monkeypatch.setenv("CUDA_STUB_CAPABILITY", "7.0")
    monkeypatch.setattr(cuda, "_loads", lambda name: "cublas" not in name)
    driver, device, *libraries = cuda_obstacles()
    assert "CUDA 12.8" in driver
    assert "7.0" in device
    assert [line.split()[0] for line in libraries] == ["libcublas.so.13", "libcublasLt.so.13"]


@pytest.mark.parametrize(
    ("instead", "obstacle"),
    [
        (None, "libcublas.so.13 is missing; install with the extra 'cuda'"),
        ("libcurand.so.10", "a CUDA library cannot be used"),
    ],
)
def test_a_library_that_is_missing_or_another_one_is_named(
    tmp_path: Path, instead: str | None, obstacle: str
) -> None:
    """As a process finds it that starts without it, or with one that lacks what is needed."""
    build(tmp_path)
    library = tmp_path / "libcublas.so.13"
    library.unlink()
    if instead is not None:
        library.symlink_to(instead)
    program = "from rapport.service.engine.runtime import cuda; print(*cuda.cuda_obstacles())"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"LD_LIBRARY_PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.startswith(obstacle)


@pytest.mark.parametrize("capability", ["8.7", "9.0", "12.1"])
def test_kernels_run_on_later_devices_of_their_major_version(
    monkeypatch: pytest.MonkeyPatch, capability: str
) -> None:
    """What is compiled for 8.6 runs on 8.7, for 12.0 on 12.1."""
    monkeypatch.setenv("CUDA_STUB_CAPABILITY", capability)
    assert cuda_obstacles() == []


def test_the_memory_of_a_device_is_told() -> None:
    """Free and total bytes are those of the device."""
    memory = device_memory(0)
    assert 0 < memory.free <= memory.total == 4 << 30


@pytest.mark.parametrize(
    ("visible", "device_id", "obstacles"),
    [
        ("0,1", 0, [f"device 0 has compute capability 7.0, {KNOWN}"]),
        ("0,1", 1, []),
        ("1,0", 0, []),
        ("1,0", 1, [f"device 1 has compute capability 7.0, {KNOWN}"]),
        ("1", 0, []),
        ("1", 1, [f"there is no device 1: 1 found, counted from 0; {HIDDEN} is '1'"]),
        ("1,5,0", 1, [f"there is no device 1: 1 found, counted from 0; {HIDDEN} is '1,5,0'"]),
        ("", 0, [f"no GPU was found; {HIDDEN} is ''"]),
        ("-1", 0, [f"no GPU was found; {HIDDEN} is '-1'"]),
    ],
)
def test_devices_are_counted_among_those_that_are_visible(
    monkeypatch: pytest.MonkeyPatch, visible: str, device_id: int, obstacles: list[str]
) -> None:
    """Of two devices, of which only the second does: hidden, in another order, or not there."""
    monkeypatch.setenv("CUDA_STUB_DEVICES", "2")
    monkeypatch.setenv("CUDA_STUB_CAPABILITY", "7.0,9.0")
    monkeypatch.setenv(HIDDEN, visible)
    assert cuda_obstacles(device_id) == obstacles
