"""The record of one request, and the summary of many."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np


@dataclass(slots=True)
class Record:
    """One request, measured by its client. Times are seconds of `time.perf_counter`."""

    started: float
    late: float = 0.0
    """Seconds from when it was due until it was sent."""
    texts: list[float] = field(default_factory=list)
    """When pieces of text arrived; servers may put several tokens in one."""
    finished: float | None = None
    """When the finish reason arrived; it comes with the last token, which may have no text."""
    ended: float = 0.0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    error: str | None = None

    @property
    def first(self) -> float | None:
        """When the first token arrived, as far as the client can tell."""
        return self.texts[0] if self.texts else self.finished

    @property
    def ttft(self) -> float | None:
        return None if self.first is None else self.first - self.started

    @property
    def itl(self) -> float | None:
        """(last - first token) / (n - 1), or None with fewer than two tokens."""
        if self.first is None or self.finished is None or self.completion_tokens < 2:  # noqa: PLR2004
            return None
        return (self.finished - self.first) / (self.completion_tokens - 1)

    @property
    def gaps(self) -> list[float]:
        """Seconds between consecutive pieces of text."""
        return [later - earlier for earlier, later in pairwise(self.texts)]


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Percentiles with linear interpolation between the nearest two values."""

    p50: float
    p95: float
    p99: float

    @classmethod
    def of(cls, values: Sequence[float | None]) -> Percentiles | None:
        """The percentiles of the values that are not None; None if all are."""
        known = [value for value in values if value is not None]
        return cls(*np.percentile(known, [50, 95, 99]).tolist()) if known else None


@dataclass(frozen=True, slots=True)
class Summary:
    """A summary of requests, in seconds and tokens. Failed requests are only counted."""

    requests: int
    ok: int
    errors: dict[str, int]
    duration: float
    ttft: Percentiles | None
    itl: Percentiles | None
    gap: Percentiles | None
    latency: Percentiles | None
    late: Percentiles | None
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int

    @classmethod
    def of(cls, records: Sequence[Record]) -> Summary:
        good = [record for record in records if record.error is None]
        return cls(
            requests=len(records),
            ok=len(good),
            errors=dict(Counter(record.error for record in records if record.error)),
            duration=_span(records),
            ttft=Percentiles.of([record.ttft for record in good]),
            itl=Percentiles.of([record.itl for record in good]),
            gap=Percentiles.of([gap for record in good for gap in record.gaps]),
            latency=Percentiles.of([record.ended - record.started for record in good]),
            late=Percentiles.of([record.late for record in records]),
            prompt_tokens=sum(record.prompt_tokens for record in good),
            cached_tokens=sum(record.cached_tokens for record in good),
            completion_tokens=sum(record.completion_tokens for record in good),
        )

    @property
    def output_rate(self) -> float:
        """Tokens generated per second, all streams together."""
        return self.completion_tokens / self.duration if self.duration else 0.0

    @property
    def prompt_rate(self) -> float:
        """Tokens of prompts per second, all streams together."""
        return self.prompt_tokens / self.duration if self.duration else 0.0

    @property
    def stream_rate(self) -> float | None:
        """Tokens per second that one reader sees after the first."""
        return 1 / self.itl.p50 if self.itl and self.itl.p50 else None


def _span(records: Sequence[Record]) -> float:
    """Seconds from the first request's start to the last one's end."""
    if not records:
        return 0.0
    return max(record.ended for record in records) - min(record.started for record in records)
