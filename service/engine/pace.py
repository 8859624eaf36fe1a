"""How long steps take, learned as they run."""

from __future__ import annotations

# How much of the last measurement enters an estimate: steps vary by a third.
WEIGHT = 0.2
# The shortest slice of a prompt worth a run, and what slices are multiples of.
GRAIN = 16


class Pace:
    """Sizes the slices of prompts so that running streams keep their inter-token latency.

    `target` is that latency, in seconds.
    """

    def __init__(self, target: float) -> None:
        self._target = target
        self._decode = 0.02
        self._per_token = 0.002

    def saw_decode(self, seconds: float) -> None:
        self._decode += WEIGHT * (seconds - self._decode)

    def saw_prefill(self, tokens: int, seconds: float) -> None:
        self._per_token += WEIGHT * (seconds / tokens - self._per_token)

    def slice_beside_decode(self) -> int:
        """Tokens of a prompt that fit between two decode steps."""
        fitting = (self._target - self._decode) / self._per_token
        return max(GRAIN, int(fitting) // GRAIN * GRAIN)
