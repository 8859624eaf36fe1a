"""Finds the candidates of rows of logits that are in a device's memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import onnxruntime as ort

from rapport.service.engine.runtime.device import run_on_device, run_options
from rapport.service.engine.runtime.providers import Provider
from rapport.service.engine.runtime.session import open_session
from rapport.service.engine.runtime.upload_buffer import UploadBuffer
from rapport.service.engine.sampling.adjustments import MAX_ADJUSTED_TOKENS, NEUTRAL
from rapport.service.engine.sampling.arrays import Floats
from rapport.service.engine.sampling.candidate_graph import Layout, candidate_graph, row_graph
from rapport.service.engine.sampling.packed_settings import (
    ALL_ALLOWED,
    MAX_ROOM,
    UNUSED,
    PackedSettings,
    Uploaded,
    max_packed_bytes,
    packed_settings,
)
from rapport.service.engine.sampling.row_candidates import RowCandidates, RowSettings


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

    A run uploads one buffer for all its rows, unless the device has their settings, and brings one
    array back. While it lasts, it takes memory for some copies of the rows.
    """

    def __init__(self, logits: DeviceBuffer) -> None:
        self._logits = logits
        self._layout = Layout(logits.tokens)
        self._sessions = [
            open_session(candidate_graph(logits.tokens, masked=masked), logits.provider)
            for masked in (False, True)
        ]
        self._row_session = open_session(row_graph(logits.tokens), logits.provider)
        size = self.max_packed_bytes(logits.rows)
        self._buffer = UploadBuffer(size, self._row_session, logits.provider)
        self._options = run_options()

    def warm_up(self) -> None:
        """Finds candidates of all rows in one run, so that no later run needs more memory."""
        room = min(MAX_ADJUSTED_TOKENS, MAX_ROOM // self._logits.rows)
        adjustments = np.tile(NEUTRAL, room)
        allowed = np.full(self._layout.mask_bytes, ALL_ALLOWED)
        for mask in (None, allowed):
            settings = UNUSED._replace(adjustments=adjustments, allowed=mask)
            self.select(0, [settings] * self._logits.rows)

    def max_packed_bytes(self, rows: int) -> int:
        """What the settings of up to so many rows take at most, packed."""
        return max_packed_bytes(rows, self._layout.mask_bytes)

    def packed(self, settings: Sequence[RowSettings | None]) -> PackedSettings | None:
        """The settings of rows for one run; None if there are none, or too many for one run."""
        if not any(each is not None for each in settings):
            return None
        first, *others = packed_settings(settings, self._layout.mask_bytes)
        return None if others else first

    def select(
        self,
        first: int,
        settings: Sequence[RowSettings | None],
        uploaded: Uploaded | None = None,
    ) -> list[RowCandidates | None]:
        """The candidates of the rows from `first` on, where there are settings.

        What was uploaded is used if it is these settings.
        """
        if uploaded is not None and uploaded.packed.has(settings):
            return self._run(first, uploaded)
        found: list[RowCandidates | None] = []
        for packed in packed_settings(settings, self._layout.mask_bytes):
            packed.write(self._buffer, 0)
            self._buffer.upload(packed.size)
            found += self._run(first + len(found), Uploaded(packed, self._buffer.address))
        return found

    def _run(self, first: int, uploaded: Uploaded) -> list[RowCandidates | None]:
        """The candidates of the rows from `first` on, by what the device has of their settings."""
        packed = uploaded.packed
        rows = len(packed.settings)
        session = self._sessions[packed.masked]
        binding = session.io_binding()
        packed.bind(binding, self._logits.provider.device, uploaded.address)
        self._logits.bind(binding, first, rows)
        found = np.empty((rows, self._layout.width(packed.room)), np.float32)
        binding.bind_ortvalue_output("candidates", ort.OrtValue.ortvalue_from_numpy(found))
        run_on_device(session, binding, self._options)
        pairs = zip(found, packed.settings, strict=True)
        return [None if each is None else self._layout.read(row, each) for row, each in pairs]

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
