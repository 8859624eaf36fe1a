"""How long steps take, learned as they run."""

from __future__ import annotations

# How much of the last measurement enters an estimate: steps vary by a third.
WEIGHT = 0.2
# The shortest slice of a prompt worth a run, and what slices are multiples of.
GRAIN = 16
# How long a prompt may take for each second of decoding, at least; and how long where most of
# that decoding is for a single other tenant.
FAIR_SHARE = 0.5
CROWDED_SHARE = 2.0


class Pace:
    """Sizes the slices of prompts so that running streams keep their inter-token latency.

    `target` is that latency, in seconds. Where decoding alone takes as long, prompts still
    get a share of the time that decoding takes: streams slow down before others wait for ever.
    """

    def __init__(self, target: float) -> None:
        self._target = target
        self._decode = 0.02
        self._per_token = 0.002

    def saw_decode(self, seconds: float) -> None:
        self._decode += WEIGHT * (seconds - self._decode)

    def saw_prefill(self, tokens: int, seconds: float) -> None:
        self._per_token += WEIGHT * (seconds / tokens - self._per_token)

    def prefill(self, tokens: int, *, beside_decode: bool) -> float:
        """Seconds that so many tokens of prompts take, alone or beside decoding as it was last."""
        alone = tokens * self._per_token
        share = self._decode / self._beside_decode(FAIR_SHARE) if beside_decode else 0
        return alone * (1 + share)

    def slice_beside_decode(self, share: float = FAIR_SHARE) -> int:
        """Tokens of a prompt that fit between two decode steps."""
        return max(GRAIN, int(self._beside_decode(share) / self._per_token) // GRAIN * GRAIN)

    def _beside_decode(self, share: float) -> float:
        return max(self._target - self._decode, self._decode * share)
