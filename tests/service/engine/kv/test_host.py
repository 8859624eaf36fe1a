from __future__ import annotations

import re
from errno import EINVAL
from mmap import MADV_DONTNEED, PAGESIZE, mmap
from pathlib import Path
from resource import RUSAGE_SELF, getrusage
from typing import cast

import numpy as np
import onnxruntime as ort
import psutil
import pytest

from rapport.common.model_spec import ModelSpec
from rapport.service.engine.kv import host
from rapport.service.engine.kv.host import (
    MAX_LAZY_BYTES,
    HostKeyValues,
    bytes_per_token,
    lazy_free_advice,
)
from rapport.service.engine.speculative.drafter import MAX_DRAFT_TOKENS


@pytest.fixture
def key_values(cpu_folder: Path) -> HostKeyValues:
    return HostKeyValues(ModelSpec.read(cpu_folder), slots=3)


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slots keep nothing of what is released."""
    monkeypatch.setattr(host, "MAX_LAZY_BYTES", 0)


def fill(key_values: HostKeyValues, slot: int, length: int, value: float) -> None:
    _, heads, _, size = key_values.shape
    shape = (2 * key_values.spec.layers, heads, length, size)
    key_values.write(slot, 0, np.broadcast_to(np.array(value, key_values.type), shape), length)


def held(key_values: HostKeyValues, slot: int, length: int, start: int = 0) -> set[float]:
    return {float(value) for value in np.unique(key_values.read(slot, start, length))}


def lazily_freed() -> int:
    """Bytes of this process that the kernel may take."""
    (kibibytes,) = re.findall(r"LazyFree:\s+(\d+) kB", Path("/proc/self/smaps_rollup").read_text())
    return int(kibibytes) * 1024


def faults() -> int:
    return getrusage(RUSAGE_SELF).ru_minflt


def test_a_token_takes_what_onnxruntime_md_says(cpu_folder: Path) -> None:
    """The budget counts 46,080 bytes for a token of the default model in float32."""
    assert bytes_per_token(ModelSpec.read(cpu_folder)) == 46_080


def test_int8_takes_a_quarter(int8_cache_folder: Path) -> None:
    """In int8 a token counts, and takes, a fourth of that; moved about, it stays what it is."""
    spec = ModelSpec.read(int8_cache_folder)
    assert bytes_per_token(spec) == 11_520
    key_values = HostKeyValues(spec, slots=2)
    process = psutil.Process()
    before = process.memory_info().rss
    fill(key_values, 0, 4000, -128)
    assert process.memory_info().rss - before == pytest.approx(4000 * 11_520, rel=0.1)
    block = key_values.read(0, 32, 32)
    assert block.nbytes == 32 * 11_520
    key_values.write(1, 0, block, 32)
    key_values.release(0, 4000)
    assert process.memory_info().rss - before < MAX_LAZY_BYTES + 5 * 2**20
    assert held(key_values, 1, 32) == {-128}


def test_copies_and_exchanges(key_values: HostKeyValues) -> None:
    """Copies carry the first tokens over; exchanged slots have each other's tokens."""
    fill(key_values, 0, 20, 1)
    fill(key_values, 1, 30, 2)
    key_values.copy(0, 2, 10)
    assert held(key_values, 2, 10) == {1}
    key_values.exchange(0, 20, 1, 30)
    assert held(key_values, 0, 30) == {2}
    assert held(key_values, 1, 20) == {1}


def test_released_memory_goes_back(key_values: HostKeyValues) -> None:
    """A slot takes memory for the tokens it holds alone; released tokens are freed, some lazily."""
    process = psutil.Process()
    before = process.memory_info().rss
    fill(key_values, 0, 4000, 1)
    full = process.memory_info().rss
    assert full - before == pytest.approx(4000 * 46_080, rel=0.1)
    fill(key_values, 1, 10, 2)
    freed_before = lazily_freed()
    key_values.release(0, 4000)
    assert process.memory_info().rss - before < MAX_LAZY_BYTES + 20 * 2**20
    assert lazily_freed() - freed_before == pytest.approx(MAX_LAZY_BYTES, rel=0.05)
    behind = MAX_LAZY_BYTES // 46_080 + 16  # a page holds 16 tokens
    assert held(key_values, 0, 4000 - behind, start=behind) == {0}
    assert held(key_values, 1, 10) == {2}


def test_a_slot_that_was_used_is_filled_without_faults(key_values: HostKeyValues) -> None:
    """Its pages were freed lazily and are written again, unless the kernel needed the memory."""
    length = MAX_LAZY_BYTES // 46_080
    fill(key_values, 0, length, 1)
    key_values.release(0, length)
    before = faults()
    fill(key_values, 0, length, 2)
    assert faults() - before < MAX_LAZY_BYTES / PAGESIZE / 10
    assert held(key_values, 0, length) == {2}


def test_kernels_that_cannot_free_lazily_free_at_once(
    cpu_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then a released slot keeps nothing."""

    class Old:
        def madvise(self, *_: int) -> None:
            raise OSError(EINVAL, "Invalid argument")

    assert lazy_free_advice(cast(mmap, Old())) == MADV_DONTNEED
    monkeypatch.setattr(host, "lazy_free_advice", lambda _: MADV_DONTNEED)
    key_values = HostKeyValues(ModelSpec.read(cpu_folder), slots=1)
    fill(key_values, 0, 100, 1)
    key_values.release(0, 100)
    assert held(key_values, 0, 100) == {0}


@pytest.mark.usefixtures("eager")
def test_what_stands_behind_the_kept_tokens_goes_back(key_values: HostKeyValues) -> None:
    """A slot handed over keeps the prompt, and two that are exchanged what they hold."""
    fill(key_values, 0, 4000, 1)
    key_values.release(0, 4000, kept=100)
    assert held(key_values, 0, 100) == {1}
    assert held(key_values, 0, 4000 - 112, start=112) == {0}
    fill(key_values, 1, 2000, 2)
    key_values.exchange(0, 100, 1, 2000)
    assert held(key_values, 0, 2000) == {2}
    assert held(key_values, 1, 100) == {1}
    assert held(key_values, 1, 2000 - 112, start=112) == {0}


@pytest.mark.usefixtures("eager")
def test_what_a_dropped_draft_left_behind_goes_too(key_values: HostKeyValues) -> None:
    fill(key_values, 0, 160 + MAX_DRAFT_TOKENS, 1)
    key_values.release(0, 160)
    assert held(key_values, 0, 200) == {0}


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("context", [1500, 1501, 16, 1])
def test_where_slots_and_pages_do_not_meet_the_neighbours_keep_theirs(
    cpu_folder: Path, context: int
) -> None:
    """Whichever slot goes back whole: pages that it shares with another head stay."""
    spec = ModelSpec.read(cpu_folder).model_copy(update={"context_length": context})
    key_values = HostKeyValues(spec, slots=4)
    for slot in range(4):
        fill(key_values, slot, context, slot + 1)
    for slot in range(3):
        key_values.release(slot, context)
        assert all(held(key_values, other, context) == {other + 1} for other in range(slot + 1, 4))
        contents = key_values.read(slot, 0, context)
        rows = np.count_nonzero(contents.any(-1))
        assert rows <= len(contents) * spec.kv_heads * 2 * PAGESIZE / 256


def test_bound_windows_are_the_slots_memory(key_values: HostKeyValues) -> None:
    """Past and present are bound to the same memory: the slots themselves, not copies."""
    bound: dict[str, ort.OrtValue] = {}

    class Recorder:
        def bind_ortvalue_input(self, name: str, value: ort.OrtValue) -> None:
            bound[name] = value

        bind_ortvalue_output = bind_ortvalue_input

    key_values.bind(Recorder(), 1, 2)
    spec = key_values.spec
    past = bound[spec.inputs.past_key.format(layer=4)]
    present = bound[spec.outputs.present_key.format(layer=4)]
    assert past.data_ptr() == present.data_ptr()
    assert past.shape() == [2, 3, 8192, 64]
    fill(key_values, 1, 10, 1)
    fill(key_values, 2, 10, 2)
    first, second = past.numpy()[:, :, :10]
    assert (first == 1).all()
    assert (second == 2).all()
    assert len(bound) == 4 * spec.layers
