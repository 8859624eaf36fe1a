"""How long steps take, learned as they run."""

from __future__ import annotations

from rapport.service.engine.scheduling.fit import Fit

# The shortest slice of a prompt worth a run, and what slices are multiples of.
GRAIN = 16
# How long a prompt may take for each second of decoding, at least; and how long where most of
# that decoding is for a single other tenant.
FAIR_SHARE = 0.5
CROWDED_SHARE = 3.0
# Seconds of a decode step, of a row, and of a token of context in one; and of a prompt's
# token, and of each that stands before it: guesses until some have run.
DECODE_GUESS = (0.004, 0.0022, 2.4e-6)
PREFILL_GUESS = (0.0015, 0.55e-6)


class Pace:
    """Sizes the slices of prompts so that running streams keep their inter-token latency.

    `target` is that latency, in seconds. Where decoding alone takes as long, prompts still
    get a share of the time that decoding takes: streams slow down before others wait for ever.
    """

    def __init__(self, target: float) -> None:
        self._target = target
        self._decode_fit = Fit(*DECODE_GUESS)
        self._prefill_fit = Fit(*PREFILL_GUESS)
        self._decode = self._decode_fit.expect(1, 1, 0)

    def saw_decode(self, seconds: float, *, rows: int, context: int) -> None:
        """Learns what a step took that decoded rows with so many tokens of context in all."""
        self._decode_fit.saw(seconds, 1, rows, context)
        self._decode = self._decode_fit.expect(1, rows, context)

    def saw_prefill(self, seconds: float, *, tokens: int, past: int) -> None:
        """Learns what a slice of a prompt took behind `past` tokens."""
        self._prefill_fit.saw(seconds, tokens, tokens * (past + tokens / 2))

    def prefill(self, tokens: int, *, depth: float = 0.0, beside_decode: bool) -> float:
        """Seconds that so many tokens of prompts take, alone or beside decoding as it was last.

        `depth` is how many tokens stand before one of them, on the average.
        """
        alone = self._prefill_fit.expect(tokens, tokens * depth)
        steps = tokens / self.slice_beside_decode(round(depth)) if beside_decode else 0
        return alone + steps * self._decode

    def slice_beside_decode(self, past: int = 0, share: float = FAIR_SHARE) -> int:
        """Tokens of a prompt, behind `past`, that fit between two decode steps."""
        token = self._prefill_fit.expect(1, past)
        return max(GRAIN, int(self._beside_decode(share) / token) // GRAIN * GRAIN)

    def _beside_decode(self, share: float) -> float:
        return max(self._target - self._decode, self._decode * share)
