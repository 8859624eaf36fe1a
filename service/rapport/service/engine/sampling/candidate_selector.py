"""Finds the candidates of rows of logits that are in a device's memory."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from rapport.service.engine.runtime.device import run_on_device, run_options
from rapport.service.engine.runtime.providers import Provider
from rapport.service.engine.runtime.session import open_session
from rapport.service.engine.sampling.adjustments import NEUTRAL
from rapport.service.engine.sampling.arrays import Bytes, Floats
from rapport.service.engine.sampling.candidate_graph import Layout, candidate_graph, row_graph
from rapport.service.engine.sampling.row_candidates import RowCandidates, RowSettings

# Settings of a row that nobody asks for.
UNUSED = RowSettings(np.float32(1), 0.0, NEUTRAL)
# Room for adjusted tokens comes in sizes that grow by this factor, room for rows doubles.
ROOM_FACTOR = 4
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


class Upload(NamedTuple):
    """An array, and the device's copy of it."""

    host: NDArray[Any]
    device: ort.OrtValue

    def send(self) -> None:
        self.device.update_inplace(self.host)


class Exchange(NamedTuple):
    """What one size of a call sends and gets back, and where that is bound."""

    binding: ort.IOBinding
    settings: Upload
    allowed: Upload | None
    candidates: Floats


class CandidateSelector:
    """Runs the graph of candidates on a buffer of logits. For one thread.

    A call uploads one array for all rows, and one of masks if there are any, and brings one back.
    Sizes are rounded up, so that few are bound. While a graph runs it takes memory for some copies
    of the rows.
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
        self._exchange = cache(self._new_exchange)

    def select(
        self, first: int, settings: Sequence[RowSettings | None]
    ) -> list[RowCandidates | None]:
        """The candidates of the rows from `first` on, where there are settings.

        They are valid until the next call.
        """
        used = [each or UNUSED for each in settings]
        rows = min(_room(len(used), 2), self._logits.rows - first)
        room = _room(max(each.adjustments.shape[1] for each in used), ROOM_FACTOR)
        masked = any(each.allowed is not None for each in used)
        exchange = self._exchange(rows, room, masked=masked)
        for row, each in enumerate(used):
            _write(exchange.settings.host[row], each)
        exchange.settings.send()
        if exchange.allowed is not None:
            for row, each in enumerate(used):
                _write_mask(exchange.allowed.host[row], each)
            exchange.allowed.send()
        self._logits.bind(exchange.binding, first, rows)
        run_on_device(self._sessions[masked], exchange.binding, self._options)
        return [
            None if each is None else self._layout.read(exchange.candidates[row], each)
            for row, each in enumerate(settings)
        ]

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

    def _new_exchange(self, rows: int, room: int, *, masked: bool) -> Exchange:
        binding = self._sessions[masked].io_binding()
        settings = self._upload(np.zeros((rows, 3, 1 + room), np.float32))
        for row in settings.host:
            _write(row, UNUSED)
        binding.bind_ortvalue_input("settings", settings.device)
        allowed = None
        if masked:
            allowed = self._upload(np.zeros((rows, self._layout.mask_bytes), np.uint8))
            binding.bind_ortvalue_input("allowed", allowed.device)
        candidates = np.empty((rows, self._layout.width(room)), np.float32)
        binding.bind_ortvalue_output("candidates", ort.OrtValue.ortvalue_from_numpy(candidates))
        return Exchange(binding, settings, allowed, candidates)

    def _upload(self, host: NDArray[Any]) -> Upload:
        type_, device = host.dtype.type, self._logits.provider.device
        return Upload(host, ort.OrtValue.ortvalue_from_shape_and_type(host.shape, type_, *device))


def _room(count: int, factor: int) -> int:
    """The least power of `factor` that is not below `count`."""
    room = 1
    while room < count:
        room *= factor
    return room


def _write(row: Floats, settings: RowSettings) -> None:
    """Writes settings into a row [3, 1 + room] of the graph's input."""
    count = settings.adjustments.shape[1]
    row[:2, 0] = settings.temperature, settings.share
    row[:, 1 : 1 + count] = settings.adjustments
    # To adjust a token twice changes nothing: every time, its logit from before is taken.
    row[:, 1 + count :] = settings.adjustments[:, :1]


def _write_mask(row: Bytes, settings: RowSettings) -> None:
    """Writes allowed tokens into a row, which has no bytes behind those of the vocabulary."""
    row[:] = ALL_ALLOWED if settings.allowed is None else settings.allowed[: len(row)]
