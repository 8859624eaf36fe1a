"""Rows of logits: on the host as arrays, or in a device's memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from rapport.service.engine.sampling.arrays import Floats
from rapport.service.engine.sampling.packed_settings import Uploaded
from rapport.service.engine.sampling.row_candidates import RowCandidates, RowSettings


class Selector(Protocol):
    """Finds candidates of a device's rows, as `CandidateSelector` does."""

    def select(
        self,
        first: int,
        settings: Sequence[RowSettings | None],
        uploaded: Uploaded | None = None,
    ) -> list[RowCandidates | None]: ...

    def rows(self, places: Sequence[int]) -> Floats: ...


class DeviceLogits:
    """Rows of a device's logits, which stay there but for what is asked of them.

    `uploaded` are settings of the first rows that the device has.
    """

    def __init__(
        self, selector: Selector, first: int, count: int, uploaded: Uploaded | None = None
    ) -> None:
        self._selector = selector
        self._places = range(first, first + count)
        self._uploaded = uploaded

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, rows: slice) -> DeviceLogits:
        places = self._places[rows]
        uploaded = None if places.start != self._places.start else self._uploaded
        return DeviceLogits(self._selector, places.start, len(places), uploaded)

    @property
    def known_settings(self) -> Sequence[RowSettings | None]:
        """Settings of the rows that the device has; None where it has none of a row."""
        known = () if self._uploaded is None else self._uploaded.packed.settings[: len(self)]
        return [*known, *[None] * (len(self) - len(known))]

    def candidates(self, settings: Sequence[RowSettings | None]) -> list[RowCandidates | None]:
        """The candidates of each row that has settings."""
        if not any(each is not None for each in settings):
            return [None] * len(settings)
        return self._selector.select(self._places.start, settings, self._uploaded)

    def rows(self, places: Sequence[int]) -> Floats:
        """Copies of whole rows on the host [places, vocabulary]."""
        return self._selector.rows([self._places[place] for place in places])


Logits = Floats | DeviceLogits
"""[rows, vocabulary]"""

StepSettings = Callable[[], Sequence[RowSettings | None]]
"""Gives what the next tokens of a step's first rows depend on, as far as it is known before it."""


def copied(logits: Logits) -> Floats:
    """All rows [rows, vocabulary], on the host and apart from `logits`."""
    return logits.rows(range(len(logits))) if isinstance(logits, DeviceLogits) else logits.copy()


def whole_rows(logits: Logits, places: Sequence[int]) -> Floats:
    """Some rows on the host [places, vocabulary], which may be those of `logits` themselves."""
    if isinstance(logits, DeviceLogits):
        return logits.rows(places)
    return logits if len(places) == len(logits) else logits[places]
