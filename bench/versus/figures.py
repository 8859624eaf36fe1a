"""The figures of a workload and what they are made of."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bench.errors import BenchError
from bench.load import Open
from bench.measure import Summary
from bench.processes import Watch
from bench.versus.wire import Answer, Wire

# The ratio if the other figure is zero or almost zero. It keeps medians of few rounds finite.
MAX_RATIO = 100.0


@dataclass(frozen=True, slots=True)
class Figure:
    """One row of the table."""

    name: str
    unit: str
    goal: float
    """The ratio to the peer that should be reached; see `ratio`."""
    higher_is_better: bool = True

    def ratio(self, rapport: float, peer: float) -> float:
        """How many times as good Rapport is: above 1 it is ahead, whichever way is better.

        At most `MAX_RATIO`; 1 if both are equal.
        """
        better, worse = (rapport, peer) if self.higher_is_better else (peer, rapport)
        if better == worse:
            return 1.0
        return min(better / worse, MAX_RATIO) if worse else MAX_RATIO


@dataclass(frozen=True, slots=True)
class Measured:
    """One workload on one server, once. `figures` are in the order of the workload's."""

    figures: list[float]
    about: dict[str, Any] = field(default_factory=dict)
    """Facts that help to judge the figures: tokens, cache hits, agreement."""


@dataclass(frozen=True, slots=True)
class Setup:
    """Options that the peer is started with."""

    slots: int = 1
    slot_context: int = 4096
    """Tokens that fit each slot."""
    flags: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        slots = f"{self.slots} slot{'s' if self.slots > 1 else ''}"
        return " ".join([slots, *self.flags])


@dataclass(frozen=True, slots=True)
class Stage:
    """A server that is ready for a workload."""

    wire: Wire
    seed: str
    """The same for all servers of a round, and for no other round."""
    watch: Watch
    """Measures the server's processes."""
    arrivals: Open | None = None
    """The arrivals of the open loop, at the rate for this server."""


@dataclass(frozen=True, slots=True)
class Workload:
    """A comparison. Which of the setups serves the peer best is tried out before."""

    name: str
    title: str
    figures: tuple[Figure, ...]
    setups: tuple[Setup, ...]
    run: Callable[[Stage], Awaitable[Measured]]
    max_rounds: int = 1000
    """Of what hardly varies and takes long, few rounds say as much."""


def sound(answers: Sequence[Answer]) -> Summary:
    """What the answers sum up to.

    Raises:
        BenchError: one failed, so that figures would not compare.
    """
    summary = Summary.of(answers)
    if summary.errors:
        raise BenchError(f"requests failed: {summary.errors}")
    return summary


def median(values: Sequence[float | None]) -> float:
    """Of the values there are.

    Raises:
        BenchError: there are none.
    """
    known = [value for value in values if value is not None]
    if not known:
        raise BenchError("nothing was measured: answers of one token have no pace")
    return float(np.median(known))


def percentile(values: Sequence[float | None], rank: int) -> float:
    """Of the values there are, with linear interpolation."""
    return float(np.percentile([value for value in values if value is not None], rank))


def facts(summary: Summary, **more: Any) -> dict[str, Any]:
    return {
        "requests": summary.requests,
        "prompt_tokens": summary.prompt_tokens,
        "cached_tokens": summary.cached_tokens,
        "completion_tokens": summary.completion_tokens,
        "seconds": summary.duration,
    } | more
