"""How long steps take, learned as they run."""

from __future__ import annotations

# The shortest slice of a prompt worth a run, and what slices are multiples of.
SLICE_GRAIN_TOKENS = 16
# How long a prompt may take for each second of decoding, at least; and how long where most of
# that decoding is for a single other tenant.
FAIR_SHARE = 0.5
CROWDED_SHARE = 3.0
# Seconds of a decode step, of a row, and of a token of context in one; and of a prompt's
# token, and of each that stands before it: guesses until some have run.
INITIAL_DECODE_COSTS_S = (0.004, 0.0022, 2.4e-6)
INITIAL_PREFILL_COSTS_S = (0.0015, 0.55e-6)
# How much of a measurement enters an estimate: steps vary by a third.
LEARNING_RATE = 0.2
# A step that took more than so many times what was expected was held up by something else,
# and counts as that much.
MAX_OUTLIER_RATIO = 2.0
# What is left of a price after one step, at least.
MIN_PRICE_RATIO = 0.1


class LatencyModel:
    """Sizes the slices of prompts so that running streams keep their inter-token latency.

    `target` is that latency, in seconds. Where decoding alone takes as long, prompts still
    get a share of the time that decoding takes: streams slow down before others wait for ever.
    """

    def __init__(self, target: float) -> None:
        self._target = target
        self._decode_fit = LinearFit(*INITIAL_DECODE_COSTS_S)
        self._prefill_fit = LinearFit(*INITIAL_PREFILL_COSTS_S)
        self._decode = self._decode_fit.predict(1, 1, 0)

    def observe_decode(self, seconds: float, *, rows: int, context: int) -> None:
        """Learns what a step took that decoded rows with so many tokens of context in all."""
        self._decode_fit.observe(seconds, 1, rows, context)
        self._decode = self._decode_fit.predict(1, rows, context)

    def observe_prefill(self, seconds: float, *, tokens: int, past: int) -> None:
        """Learns what a slice of a prompt took behind `past` tokens."""
        self._prefill_fit.observe(seconds, tokens, tokens * (past + tokens / 2))

    def prefill(self, tokens: int, *, depth: float = 0.0, beside_decode: bool) -> float:
        """Seconds that so many tokens of prompts take, alone or beside decoding as it was last.

        `depth` is how many tokens stand before one of them, on the average.
        """
        alone = self._prefill_fit.predict(tokens, tokens * depth)
        steps = tokens / self.slice_beside_decode(round(depth)) if beside_decode else 0
        return alone + steps * self._decode

    def slice_beside_decode(self, past: int = 0, share: float = FAIR_SHARE) -> int:
        """Tokens of a prompt, behind `past`, that fit between two decode steps."""
        token = self._prefill_fit.predict(1, past)
        return max(
            SLICE_GRAIN_TOKENS,
            int(self._beside_decode(share) / token) // SLICE_GRAIN_TOKENS * SLICE_GRAIN_TOKENS,
        )

    def _beside_decode(self, share: float) -> float:
        return max(self._target - self._decode, self._decode * share)


class LinearFit:
    """Seconds as the sum of features, each times a price.

    Normalised least mean squares: after each step the estimate for its own features has moved
    by `WEIGHT` of the error, and a price by as much of that as its part of the estimate was
    large. Prices stay positive. The first steps count for more, so that the guess does not.
    """

    def __init__(self, *guess: float) -> None:
        self._prices = list(guess)
        self._seen = 0

    def predict(self, *features: float) -> float:
        """Seconds that a step with these features takes."""
        return sum(self._parts(features))

    def observe(self, seconds: float, *features: float) -> None:
        """Learns what a step with these features took."""
        self._seen += 1
        expected = self.predict(*features)
        if self._seen > 1:
            seconds = min(seconds, MAX_OUTLIER_RATIO * expected)
        moved = max(LEARNING_RATE, 1 / self._seen) * (seconds - expected)
        parts = self._parts(features)
        scale = moved / sum(part * part for part in parts)
        self._prices = [
            price * max(1 + scale * part, MIN_PRICE_RATIO)
            for price, part in zip(self._prices, parts, strict=True)
        ]

    def _parts(self, features: tuple[float, ...]) -> list[float]:
        return [price * feature for price, feature in zip(self._prices, features, strict=True)]
