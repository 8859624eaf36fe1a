"""Settings of rows lie in one buffer as the graph of candidates reads them."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from rapport.service.engine.sampling.adjustments import MAX_ADJUSTED_TOKENS
from rapport.service.engine.sampling.packed_settings import (
    MAX_ROOM,
    PackedSettings,
    max_packed_bytes,
    packed_settings,
)
from rapport.service.engine.sampling.row_candidates import RowSettings

MASK_BYTES = 19_000
COUNTS = st.lists(st.integers(1, MAX_ADJUSTED_TOKENS), min_size=1, max_size=70)


def row(adjusted: int, mask: np.ndarray | None = None) -> RowSettings:
    return RowSettings(np.float32(1), 0.0, np.zeros((3, adjusted), np.float32), mask)


@given(COUNTS)
def test_rows_with_many_adjusted_tokens_run_apart(counts: list[int]) -> None:
    """Runs follow each other, and no run has more room than it may; few rows fit into one."""
    rows = [row(count) for count in counts]
    runs = list(packed_settings(rows, MASK_BYTES))
    assert [id(each) for run in runs for each in run.settings] == [*map(id, rows)]
    assert all(run.room == max(each.adjustments.shape[1] for each in run.settings) for run in runs)
    assert max(len(run.settings) * run.room for run in runs) <= MAX_ROOM
    assert len(runs) == 1 or len(rows) * max(counts) > MAX_ROOM


@given(COUNTS)
def test_the_settings_of_any_run_fit_into_a_buffer_for_its_rows_or_more(counts: list[int]) -> None:
    """Each row may have a mask."""
    mask = np.zeros(MASK_BYTES, np.uint8)
    most = max_packed_bytes(len(counts), MASK_BYTES)
    for run in packed_settings([row(count, mask) for count in counts], MASK_BYTES):
        assert run.size <= most


def test_only_runs_with_masks_have_room_for_them() -> None:
    (plain,) = packed_settings([row(1), None], MASK_BYTES)
    (masked,) = packed_settings([row(1), row(1, np.zeros(MASK_BYTES, np.uint8))], MASK_BYTES)
    assert (plain.masked, masked.masked) == (False, True)
    assert masked.size - plain.size >= 2 * MASK_BYTES - 4096


def test_settings_that_changed_are_not_what_was_packed() -> None:
    """Equal ones of another token are not; nor is a row that has settings only now."""
    one, other = row(1), row(1)
    packed = PackedSettings([one, None], 1, 0)
    assert packed.has([one, None])
    for settings in ([other, None], [one, other], [one], [one, None, None]):
        assert not packed.has(settings)
