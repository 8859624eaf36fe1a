"""How long steps take, learned as they run."""

from __future__ import annotations

# How much of the last measurement enters an estimate: steps vary by a third.
WEIGHT = 0.2
# The shortest slice of a prompt worth a run, and what slices are multiples of.
GRAIN = 16


class Pace:
    """Sizes the slices of prompts so that running streams keep their inter-token latency.

    `target` is that latency, in seconds. Where decoding alone takes as long, prompts still
    get half as much time as decoding: streams slow down before others wait for ever.
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
        seconds = max(self._target - self._decode, self._decode / 2)
        return max(GRAIN, int(seconds / self._per_token) // GRAIN * GRAIN)
