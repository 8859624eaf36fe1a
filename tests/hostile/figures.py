"""What a bystander measured, alone and beside an attack."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

# Of a bystander that is not blocked, also where other tests keep the machine busy.
MAX_CHAT_S, MAX_ANSWER_S = 4.0, 2.0
MAX_RATIO = 3
# Of 99th percentiles on a machine that has nothing else to do; gaps keep to the ratio.
MAX_HEALTH_S, MAX_TTFT_S = 0.1, 1.0
CHATS = ("rest ttft", "rest gap", "grpc ttft", "grpc gap")
HEALTH = ("rest health", "grpc health")
ANSWERS = (*HEALTH, "scrape")
KINDS = (*CHATS, *ANSWERS)


@dataclass(frozen=True)
class Sample:
    """One measurement: seconds (a gap is the longest of its chat), or what failed."""

    kind: str
    end: float
    value: float | str

    @property
    def seconds(self) -> float:
        return float(self.value)


@dataclass(frozen=True)
class Spread:
    """How long measurements of one kind took, in seconds."""

    count: int
    p50: float
    p99: float
    max: float

    @classmethod
    def of(cls, samples: Iterable[Sample], kind: str) -> Spread:
        values = [sample.seconds for sample in samples if sample.kind == kind]
        if not values:
            return cls(0, 0, 0, 0)
        p50, p99 = np.percentile(values, [50, 99]).tolist()
        return cls(len(values), p50, p99, max(values))

    def __str__(self) -> str:
        p50, p99, most = (round(1000 * value) for value in (self.p50, self.p99, self.max))
        return f"{p50:5} {p99:5} {most:5} ({self.count})"


@dataclass(frozen=True)
class Figures:
    """Both phases of a bystander, and by how many bytes each part had grown at its largest."""

    alone: list[Sample]
    beside: list[Sample]
    growth_bytes: dict[str, int]

    def failures(self) -> Counter[str]:
        """What failed in both phases, and how often."""
        samples = (*self.alone, *self.beside)
        return Counter(str(sample.value) for sample in samples if sample.kind == "failure")

    def blocked(self) -> list[str]:
        """The kinds in which the bystander had to wait for others."""
        found = []
        for kind in KINDS:
            alone, beside = Spread.of(self.alone, kind), Spread.of(self.beside, kind)
            slack = MAX_CHAT_S if kind in CHATS else MAX_ANSWER_S
            if beside.count == 0 or beside.max > max(slack, MAX_RATIO * alone.max):
                found.append(f"{kind}: {beside.max:.2f} s, alone {alone.max:.2f} s")
        return found

    def slow(self) -> list[str]:
        """The kinds that are over the strict bounds, which hold on an idle machine."""
        found = []
        for kind in (*CHATS, *HEALTH):
            beside = Spread.of(self.beside, kind).p99
            bound = MAX_HEALTH_S if kind in HEALTH else MAX_TTFT_S
            if kind.endswith("gap"):
                bound = MAX_RATIO * Spread.of(self.alone, kind).p99
            if beside > bound:
                found.append(f"{kind}: {beside:.3f} s, over {bound:.3f} s")
        return found

    def __str__(self) -> str:
        lines = ["ms of a bystander  alone: p50 p99 max (count), beside the attack: the same"]
        lines += [
            f"  {kind:12} {Spread.of(self.alone, kind)}   {Spread.of(self.beside, kind)}"
            for kind in KINDS
        ]
        grown = ", ".join(f"{part} {size >> 20} MiB" for part, size in self.growth_bytes.items())
        return "\n".join((*lines, f"  grown at most: {grown}"))
