"""Stop strings in text as it comes."""

from __future__ import annotations

from collections.abc import Sequence


class StopMatcher:
    """Finds the stop string that is first complete, also across pieces.

    With `inclusive`, text ends exactly with the stop string; without, exactly before
    it, for which text that may be the beginning of a stop string is held back.
    """

    def __init__(self, stops: Sequence[str], *, inclusive: bool) -> None:
        self._stops = tuple(stops)
        self._inclusive = inclusive
        self._reach = max(map(len, self._stops), default=1) - 1
        self._tail = ""  # text seen that a match could still begin in
        self._held = 0  # characters at the end of the tail that were not given out

    def push(self, piece: str) -> tuple[str, bool]:
        """The text that can be given out now, and whether a stop string ended it."""
        if not self._stops:
            return piece, False
        window = self._tail + piece
        given = len(self._tail) - self._held
        match = self._first_match(window)
        if match is not None:
            start, end = match
            return window[given : end if self._inclusive else start], True
        self._held = 0 if self._inclusive else self._promise(window)
        self._tail = window[-max(self._reach, self._held) :] if self._reach else ""
        return window[given : len(window) - self._held], False

    def flush(self) -> str:
        """What was held back for a stop string that did not come."""
        held = self._tail[len(self._tail) - self._held :]
        self._held = 0
        return held

    def _first_match(self, window: str) -> tuple[int, int] | None:
        found = ((window.find(stop), len(stop)) for stop in self._stops)
        matches = [(start, start + length) for start, length in found if start >= 0]
        return min(matches, key=lambda match: (match[1], match[0]), default=None)

    def _promise(self, window: str) -> int:
        """How many characters at the end could be the beginning of a stop string."""
        longest = min(self._reach, len(window))
        ends = (window[-length:] for length in range(longest, 0, -1))
        return next((len(end) for end in ends if any(s.startswith(end) for s in self._stops)), 0)
