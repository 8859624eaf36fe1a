"""How much work one schema may make."""

from __future__ import annotations

import time

# A unit is some microseconds, here or in the grammar engine.
UNITS = 200_000
# The engine's work on an object grows with the square of its keys: of those with a name,
# so many squares take a unit; of patterns, a square takes so many units.
SQUARES_A_UNIT = 25
UNITS_A_SQUARE = 20
# And on a pattern with the square of its length, if it is long.
UNITS_A_PATTERN = 300
SQUARES_OF_LENGTH_A_UNIT = 5000
VALUES_A_UNIT = 50
# Of computing: callers wait no longer, and others want the thread.
SECONDS = 2.0


class TooLarge(Exception):
    """The schema makes more work than it may."""


class Budget:
    """What is left to spend on one document, in the thread that makes it."""

    def __init__(self, units: int = UNITS) -> None:
        self._left = units
        self._until = time.thread_time() + SECONDS

    def spend(self, units: int = 1) -> None:
        """Pays for some work.

        Raises:
            TooLarge: there is not enough left.
        """
        self._left -= units
        if self._left < 0 or time.thread_time() > self._until:
            raise TooLarge

    def spend_on_keys(self, names: int, patterns: int = 0) -> None:
        """Pays for an object with so many keys.

        Raises:
            TooLarge: there is not enough left.
        """
        self.spend(names**2 // SQUARES_A_UNIT + patterns**2 * UNITS_A_SQUARE)

    def spend_on_values(self, count: int) -> None:
        """Pays for looking up so many constants.

        Raises:
            TooLarge: there is not enough left.
        """
        self.spend(count // VALUES_A_UNIT)

    def spend_on_pattern(self, length: int) -> None:
        """Pays for a regular expression.

        Raises:
            TooLarge: there is not enough left.
        """
        self.spend(UNITS_A_PATTERN + length**2 // SQUARES_OF_LENGTH_A_UNIT)
