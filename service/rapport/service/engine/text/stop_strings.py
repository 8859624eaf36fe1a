"""Finds stop strings in text as it arrives."""

from __future__ import annotations

from collections.abc import Sequence


class StopMatcher:
    """Finds the first stop string that is complete, even if it spans several pieces.

    With `inclusive`, the text ends with the stop string. Without, it ends before it: text that
    may be the beginning of a stop string is held back.
    """

    def __init__(self, stops: Sequence[str], *, inclusive: bool) -> None:
        self._stops = tuple(stops)
        self._inclusive = inclusive
        self._overlap = max(map(len, self._stops), default=1) - 1
        self._tail = ""  # the end of the text so far, in which a match could begin
        self._held = 0  # characters at the end of the tail that are held back

    def push(self, piece: str) -> tuple[str, bool]:
        """The text that can be returned now, and whether a stop string ended it."""
        if not self._stops:
            return piece, False
        window = self._tail + piece
        start = len(self._tail) - self._held
        match = self._first_match(window)
        if match is not None:
            stop_start, stop_end = match
            return window[start : stop_end if self._inclusive else stop_start], True
        self._held = 0 if self._inclusive else self._partial_match(window)
        self._tail = window[-max(self._overlap, self._held) :] if self._overlap else ""
        return window[start : len(window) - self._held], False

    def flush(self) -> str:
        """The text that was held back for a stop string that did not come."""
        held = self._tail[len(self._tail) - self._held :]
        self._held = 0
        return held

    def _first_match(self, window: str) -> tuple[int, int] | None:
        found = ((window.find(stop), len(stop)) for stop in self._stops)
        matches = [(start, start + length) for start, length in found if start >= 0]
        return min(matches, key=lambda match: (match[1], match[0]), default=None)

    def _partial_match(self, window: str) -> int:
        """How many characters at the end could be the beginning of a stop string."""
        longest = min(self._overlap, len(window))
        ends = (window[-length:] for length in range(longest, 0, -1))
        return next((len(end) for end in ends if any(s.startswith(end) for s in self._stops)), 0)
