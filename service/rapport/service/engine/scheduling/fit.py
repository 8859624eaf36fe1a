"""A time that is a sum of parts, learned from what steps took."""

from __future__ import annotations

# How much of a measurement enters an estimate: steps vary by a third.
WEIGHT = 0.2
# A step that took more than so many times what was expected was held up by something else,
# and counts as that much.
OUTLIER = 2.0
# What is left of a price after one step, at least.
SMALLEST = 0.1


class Fit:
    """Seconds as the sum of features, each times a price.

    Normalised least mean squares: after each step the estimate for its own features has moved
    by `WEIGHT` of the error, and a price by as much of that as its part of the estimate was
    large. Prices stay positive. The first steps count for more, so that the guess does not.
    """

    def __init__(self, *guess: float) -> None:
        self._prices = list(guess)
        self._seen = 0

    def expect(self, *features: float) -> float:
        """Seconds that a step with these features takes."""
        return sum(self._parts(features))

    def saw(self, seconds: float, *features: float) -> None:
        """Learns what a step with these features took."""
        self._seen += 1
        expected = self.expect(*features)
        if self._seen > 1:
            seconds = min(seconds, OUTLIER * expected)
        moved = max(WEIGHT, 1 / self._seen) * (seconds - expected)
        parts = self._parts(features)
        scale = moved / sum(part * part for part in parts)
        self._prices = [
            price * max(1 + scale * part, SMALLEST)
            for price, part in zip(self._prices, parts, strict=True)
        ]

    def _parts(self, features: tuple[float, ...]) -> list[float]:
        return [price * feature for price, feature in zip(self._prices, features, strict=True)]
