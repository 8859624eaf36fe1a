"""Predicts how long steps take, from those that ran."""

from __future__ import annotations

from rapport.service.engine.pace import CPU_PACE, Pace

# Slices of prompts are multiples of this, and no shorter.
SLICE_GRAIN_TOKENS = 16
# Seconds of prefill allowed per second of decoding where decoding alone exceeds the target; and
# where most of that decoding is for one other tenant.
FAIR_SHARE = 0.5
CROWDED_SHARE = 3.0
# The weight of one measurement in an estimate: steps vary by a third.
LEARNING_RATE = 0.2
# A step that took more than this many times the prediction was held up by something else. It
# counts as this much.
MAX_OUTLIER_RATIO = 2.0
# The smallest part of a price that is left after one step.
MIN_PRICE_RATIO = 0.1


class LatencyModel:
    """Sizes the slices of prompts so that running streams keep their inter-token latency.

    `target` is that latency, in seconds, and `pace` what is guessed until some steps have run.
    Where decoding alone takes as long as the target, prompts still get a share of the time that it
    takes: streams slow down, rather than prompts waiting forever.
    """

    def __init__(self, target: float, pace: Pace = CPU_PACE) -> None:
        self._target = target
        self._decode_fit = LinearFit(*pace.decode_costs_s)
        self._prefill_fit = LinearFit(*pace.prefill_costs_s)
        self._decode = self._decode_fit.predict(1, 1, 0)

    def observe_decode(self, seconds: float, *, rows: int, context: int) -> None:
        """Learns from a decode step; `context` is the number of tokens before all its rows."""
        self._decode_fit.observe(seconds, 1, rows, context)
        self._decode = self._decode_fit.predict(1, rows, context)

    def observe_prefill(self, seconds: float, *, tokens: int, past: int) -> None:
        """Learns from a slice of a prompt; `past` is the number of tokens before it."""
        self._prefill_fit.observe(seconds, tokens, tokens * (past + tokens / 2))

    def prefill(self, tokens: int, *, depth: float = 0.0, beside_decode: bool) -> float:
        """Predicts the seconds that prompt tokens take, alone or beside decoding as it was last.

        `depth` is the mean number of tokens before each of them.
        """
        alone = self._prefill_fit.predict(tokens, tokens * depth)
        steps = tokens / self.slice_beside_decode(round(depth)) if beside_decode else 0
        return alone + steps * self._decode

    def slice_beside_decode(self, past: int = 0, share: float = FAIR_SHARE) -> int:
        """How many prompt tokens, after `past` others, fit between two decode steps."""
        token = self._prefill_fit.predict(1, past)
        return max(
            SLICE_GRAIN_TOKENS,
            int(self._beside_decode(share) / token) // SLICE_GRAIN_TOKENS * SLICE_GRAIN_TOKENS,
        )

    def _beside_decode(self, share: float) -> float:
        return max(self._target - self._decode, self._decode * share)


class LinearFit:
    """Predicts seconds as a sum of features, each times a price that is learned.

    Normalised least mean squares: each step moves the prediction for its features by
    `LEARNING_RATE` of the error. A price takes a part of that in proportion to its part of the
    prediction. Prices stay positive. The first steps weigh more, so that the guess soon counts for
    nothing.
    """

    def __init__(self, *guess: float) -> None:
        self._prices = list(guess)
        self._seen = 0

    def predict(self, *features: float) -> float:
        """Predicts the seconds of a step with these features."""
        return sum(self._parts(features))

    def observe(self, seconds: float, *features: float) -> None:
        """Learns from a step with these features."""
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
