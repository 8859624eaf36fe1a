"""The engine's statistics. One thread writes each number, any may read it."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field

# Upper bounds of the buckets that times, in seconds, and rows are counted in.
STEP_BOUNDS = (
    *(0.001, 0.002, 0.004, 0.006, 0.008, 0.01, 0.015, 0.02, 0.03, 0.05),
    *(0.075, 0.1, 0.15, 0.2, 0.4, 0.8, 1.6),
)
MASK_BOUNDS = (2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 0.01, 0.02, 0.05, 0.1)
COMPILE_BOUNDS = (5e-4, 1e-3, 2.5e-3, 5e-3, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0)
ROW_BOUNDS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)


class Histogram:
    """Counts of values by bucket, and their sum."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        """Values up to each bound and over the one before; the last: values over all bounds."""
        self.sum = 0.0

    def add(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def since(self, started: float) -> float:
        """Adds the seconds since a time of the performance counter, and returns them."""
        seconds = time.perf_counter() - started
        self.add(seconds)
        return seconds


@dataclass(slots=True)
class DraftTokens:
    """Tokens in drafts, and those that were accepted."""

    drafted: int = 0
    accepted: int = 0


@dataclass(slots=True)
class EngineStats:
    """Written by the engine's thread alone. Times are in seconds."""

    prompt_tokens: int = 0
    """Tokens of prompts that got a slot, counted once however many choices there are."""
    cached_tokens: int = 0
    """Of those, tokens that did not need to be computed."""
    completion_tokens: int = 0
    failed_steps: int = 0
    rows: Histogram = field(default_factory=lambda: Histogram(ROW_BOUNDS))
    """Sequences in a decode step."""
    decode: Histogram = field(default_factory=lambda: Histogram(STEP_BOUNDS))
    prefill: Histogram = field(default_factory=lambda: Histogram(STEP_BOUNDS))
    verify: Histogram = field(default_factory=lambda: Histogram(STEP_BOUNDS))
    mask: Histogram = field(default_factory=lambda: Histogram(MASK_BOUNDS))
    """Computing the mask of a grammar, for one token."""
    forced: DraftTokens = field(default_factory=DraftTokens)
    """Drafts from the grammar."""
    guessed: DraftTokens = field(default_factory=DraftTokens)
    """Drafts from the prompt, the output or the prediction."""

    def record_acceptance(self, drafted: int, accepted: int, *, forced: bool) -> None:
        """Counts a draft: its tokens, and how many of them were accepted."""
        tokens = self.forced if forced else self.guessed
        tokens.drafted += drafted
        tokens.accepted += accepted


@dataclass(frozen=True, slots=True)
class Occupancy:
    """What is in use at a moment. KV tokens are those in slots."""

    slots: int
    slots_used: int
    waiting_requests: int
    waiting_tokens: int
    """Of their prompts."""
    kv_budget_tokens: int
    kv_reserved_tokens: int
    """What the running sequences may grow to."""
    kv_tokens: int
    """What they hold."""
    token_bytes: int
    """Memory of one token's keys and values."""

    @property
    def kv_bytes(self) -> int:
        return self.kv_tokens * self.token_bytes

    @property
    def kv_budget_bytes(self) -> int:
        return self.kv_budget_tokens * self.token_bytes


@dataclass(frozen=True, slots=True)
class PrefixStats:
    """The state of the prefix cache, and how often it was hit."""

    hits: int = 0
    misses: int = 0
    evictions: int = 0
    """Blocks evicted to make room."""
    blocks: int = 0
    bytes: int = 0
    budget_bytes: int = 0
