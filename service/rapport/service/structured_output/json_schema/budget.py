"""Limits the work that one JSON Schema may cause, here and in the grammar engine."""

from __future__ import annotations

import time

# One unit of work takes some microseconds, here or in the grammar engine.
MAX_UNITS = 200_000
# The engine's work on an object grows with the square of the number of its keys. One unit
# pays for 25 pairs of named keys; a pair of key patterns costs 20 units.
NAME_PAIRS_PER_UNIT = 25
UNITS_PER_PATTERN_PAIR = 20
# The engine's work on a long regular expression grows with the square of its length.
UNITS_PER_PATTERN = 300
SQUARED_LENGTH_PER_UNIT = 5000
VALUES_PER_UNIT = 50
# CPU time of the thread. Callers do not wait longer, and other requests need the thread.
MAX_CPU_S = 2.0


class SchemaTooLargeError(Exception):
    """The schema causes more work than it may."""


class WorkBudget:
    """The work that is left for one document. Used in the thread that translates it."""

    def __init__(self, units: int = MAX_UNITS) -> None:
        self._left = units
        self._until = time.thread_time() + MAX_CPU_S

    def spend(self, units: int = 1) -> None:
        """Spends units of work.

        Raises:
            SchemaTooLargeError: too few units are left, or the CPU time is used up.
        """
        self._left -= units
        if self._left < 0 or time.thread_time() > self._until:
            raise SchemaTooLargeError

    def spend_on_keys(self, names: int, patterns: int = 0) -> None:
        """Spends the work for an object with this many named keys and key patterns.

        Raises:
            SchemaTooLargeError: as `spend`.
        """
        self.spend(names**2 // NAME_PAIRS_PER_UNIT + patterns**2 * UNITS_PER_PATTERN_PAIR)

    def spend_on_values(self, count: int) -> None:
        """Spends the work for looking up this many constants.

        Raises:
            SchemaTooLargeError: as `spend`.
        """
        self.spend(count // VALUES_PER_UNIT)

    def spend_on_pattern(self, length: int) -> None:
        """Spends the work for a regular expression of this many characters.

        Raises:
            SchemaTooLargeError: as `spend`.
        """
        self.spend(UNITS_PER_PATTERN + length**2 // SQUARED_LENGTH_PER_UNIT)
