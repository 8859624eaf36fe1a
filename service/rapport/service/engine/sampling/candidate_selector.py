"""Finds the candidates of rows of logits that are in a device's memory."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import onnxruntime as ort

from rapport.service.engine.sampling.adjustments import NEUTRAL
from rapport.service.engine.sampling.arrays import Floats
from rapport.service.engine.sampling.candidate_graph import Layout, candidate_graph, row_graph
from rapport.service.engine.sampling.row_candidates import RowCandidates, RowSettings

# Settings of a row that nobody asks for.
UNUSED = RowSettings(np.float32(1), 0.0, NEUTRAL)
# Room for adjusted tokens comes in sizes that grow by this factor, room for rows doubles.
ROOM_FACTOR = 4


class DeviceBuffer(NamedTuple):
    """Logits float32 [rows, vocabulary] in the memory of a device; `value` owns it."""

    value: ort.OrtValue
    rows: int
    tokens: int
    device: str
    device_id: int

    def bind(self, binding: ort.IOBinding, first: int, rows: int) -> None:
        """Binds some rows as the input `logits`."""
        start = self.value.data_ptr() + first * self.tokens * np.dtype(np.float32).itemsize
        shape = (rows, self.tokens)
        binding.bind_input("logits", self.device, self.device_id, np.float32, shape, start)


class Exchange(NamedTuple):
    """What one size of a call sends and gets back, and where that is bound."""

    binding: ort.IOBinding
    settings: Floats
    on_device: ort.OrtValue
    """The settings on the device."""
    candidates: Floats


class CandidateSelector:
    """Runs the graph of candidates on a buffer of logits. For one thread.

    A call uploads one array for all rows and brings one back. Sizes are rounded up, so that few
    are bound. The graph of a vocabulary takes memory for some copies of the rows while it runs.
    """

    def __init__(self, logits: DeviceBuffer, providers: Sequence[Any]) -> None:
        self._logits = logits
        self._layout = Layout(logits.tokens)
        self._session = _open_session(candidate_graph(logits.tokens), providers)
        self._row_session = _open_session(row_graph(logits.tokens), providers)
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
        exchange = self._exchange(rows, room)
        for row, each in enumerate(used):
            _write(exchange.settings[row], each)
        exchange.on_device.update_inplace(exchange.settings)
        self._logits.bind(exchange.binding, first, rows)
        self._session.run_with_iobinding(exchange.binding)
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
            self._row_session.run_with_iobinding(binding)
        return rows

    def _new_exchange(self, rows: int, room: int) -> Exchange:
        settings = np.zeros((rows, 3, 1 + room), np.float32)
        for row in settings:
            _write(row, UNUSED)
        on_device = ort.OrtValue.ortvalue_from_shape_and_type(
            settings.shape, np.float32, self._logits.device, self._logits.device_id
        )
        candidates = np.empty((rows, self._layout.width(room)), np.float32)
        binding = self._session.io_binding()
        binding.bind_ortvalue_input("settings", on_device)
        binding.bind_ortvalue_output("candidates", ort.OrtValue.ortvalue_from_numpy(candidates))
        return Exchange(binding, settings, on_device, candidates)


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


def _open_session(graph: bytes, providers: Sequence[Any]) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4  # fatal only, as that of the model
    return ort.InferenceSession(graph, options, providers=providers)
