"""Finds the candidates of rows of logits that are in a device's memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import onnxruntime as ort

from rapport.service.engine.runtime.device import device_errors, run_on_device, run_options
from rapport.service.engine.runtime.providers import Provider
from rapport.service.engine.runtime.session import open_session
from rapport.service.engine.sampling.adjustments import MAX_ADJUSTED_TOKENS, NEUTRAL
from rapport.service.engine.sampling.arrays import Bytes, Floats
from rapport.service.engine.sampling.candidate_graph import Layout, candidate_graph, row_graph
from rapport.service.engine.sampling.row_candidates import RowCandidates, RowSettings

# Settings of a row that nobody asks for.
UNUSED = RowSettings(np.float32(1), 0.0, NEUTRAL)
# Room for adjusted tokens in all rows of a run together.
MAX_ROOM = 2**16
ALL_ALLOWED = np.uint8(255)


class DeviceBuffer(NamedTuple):
    """Logits float32 [rows, vocabulary] in the memory of a device; `value` owns it."""

    value: ort.OrtValue
    rows: int
    tokens: int
    provider: Provider

    def bind(self, binding: ort.IOBinding, first: int, rows: int) -> None:
        """Binds some rows as the input `logits`."""
        start = self.value.data_ptr() + first * self.tokens * np.dtype(np.float32).itemsize
        shape = (rows, self.tokens)
        binding.bind_input("logits", *self.provider.device, np.float32, shape, start)


class CandidateSelector:
    """Runs the graph of candidates on a buffer of logits. For one thread.

    A run uploads one array for all its rows, and one of masks if there are any, and brings one
    back. While it lasts, it takes memory for some copies of the rows.
    """

    def __init__(self, logits: DeviceBuffer) -> None:
        self._logits = logits
        self._layout = Layout(logits.tokens)
        self._sessions = [
            open_session(candidate_graph(logits.tokens, masked=masked), logits.provider)
            for masked in (False, True)
        ]
        self._row_session = open_session(row_graph(logits.tokens), logits.provider)
        self._options = run_options()

    def warm_up(self) -> None:
        """Finds candidates of all rows in one run, so that no later run needs more memory."""
        room = min(MAX_ADJUSTED_TOKENS, MAX_ROOM // self._logits.rows)
        adjustments = np.tile(NEUTRAL, room)
        allowed = np.full(self._layout.mask_bytes, ALL_ALLOWED)
        for mask in (None, allowed):
            settings = UNUSED._replace(adjustments=adjustments, allowed=mask)
            self.select(0, [settings] * self._logits.rows)

    def select(
        self, first: int, settings: Sequence[RowSettings | None]
    ) -> list[RowCandidates | None]:
        """The candidates of the rows from `first` on, where there are settings."""
        used = [each or UNUSED for each in settings]
        found = [
            row for batch in batches(used) for row in self._run(first + batch.start, used[batch])
        ]
        rows = zip(found, settings, strict=True)
        return [None if each is None else self._layout.read(row, each) for row, each in rows]

    def _run(self, first: int, used: Sequence[RowSettings]) -> Floats:
        """The graph's output [rows, width] for the rows from `first` on."""
        room = max(each.adjustments.shape[1] for each in used)
        masked = any(each.allowed is not None for each in used)
        session = self._sessions[masked]
        binding = session.io_binding()
        with device_errors():  # arrays of the host are uploaded when they are bound
            binding.bind_cpu_input("settings", _settings_of(used, room))
            if masked:
                binding.bind_cpu_input("allowed", _masks_of(used, self._layout.mask_bytes))
        self._logits.bind(binding, first, len(used))
        found = np.empty((len(used), self._layout.width(room)), np.float32)
        binding.bind_ortvalue_output("candidates", ort.OrtValue.ortvalue_from_numpy(found))
        run_on_device(session, binding, self._options)
        return found

    def rows(self, places: Sequence[int]) -> Floats:
        """Copies of whole rows on the host [places, vocabulary]."""
        rows = np.empty((len(places), self._logits.tokens), np.float32)
        binding = self._row_session.io_binding()
        for at, place in enumerate(places):
            self._logits.bind(binding, place, 1)
            row = ort.OrtValue.ortvalue_from_numpy(rows[at : at + 1])
            binding.bind_ortvalue_output("row", row)
            run_on_device(self._row_session, binding, self._options)
        return rows


def batches(rows: Sequence[RowSettings]) -> Iterator[slice]:
    """The rows that run together: all of them, unless some have many adjusted tokens.

    All rows of a run have room for as many, and those with few are not to wait for the others.
    """
    start = room = 0
    for place, row in enumerate(rows):
        room = max(room, row.adjustments.shape[1])
        if place > start and (place + 1 - start) * room > MAX_ROOM:
            yield slice(start, place)
            start, room = place, row.adjustments.shape[1]
    yield slice(start, len(rows))


def _settings_of(rows: Sequence[RowSettings], room: int) -> Floats:
    """The graph's input [rows, 3, 1 + room]."""
    settings = np.zeros((len(rows), 3, 1 + room), np.float32)
    for row, each in zip(settings, rows, strict=True):
        count = each.adjustments.shape[1]
        row[:2, 0] = each.temperature, each.share
        row[:, 1 : 1 + count] = each.adjustments
        # To adjust a token twice changes nothing: every time, its logit from before is taken.
        row[:, 1 + count :] = each.adjustments[:, :1]
    return settings


def _masks_of(rows: Sequence[RowSettings], size: int) -> Bytes:
    """The graph's input [rows, size]. Masks may have a few bytes more, to fill a word."""
    masks = np.full((len(rows), size), ALL_ALLOWED)
    for row, each in zip(masks, rows, strict=True):
        if each.allowed is not None:
            row[:] = each.allowed[:size]
    return masks
