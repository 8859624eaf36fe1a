"""The time that the gateway adds to a direct gRPC call, from requests sent in pairs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bench.errors import BenchError
from bench.measure import Record
from bench.progress import show_progress
from bench.scenario import Session

# The first measures the time to the first token alone; the second, that of each further token.
MAX_TOKENS = (1, 32)


@dataclass(frozen=True, slots=True)
class Cost:
    """One figure, in seconds. `added` is the median of the differences within pairs."""

    figure: str
    pairs: int
    rest: float
    grpc: float
    added: float
    added_p25: float
    added_p75: float

    @classmethod
    def of(cls, figure: str, rest: list[float], grpc: list[float]) -> Cost:
        added = np.subtract(rest, grpc)
        low, middle, high = np.percentile(added, [25, 50, 75]).tolist()
        medians = float(np.median(rest)), float(np.median(grpc))
        return cls(figure, len(rest), *medians, middle, low, high)


async def gateway_cost(session: Session, rounds: int) -> list[Cost]:
    """Alternates between REST and gRPC, one request at a time.

    Raises:
        BenchError: a request failed.
    """
    costs = []
    for max_tokens in MAX_TOKENS:
        show_progress(f"the gateway's cost, {rounds} pairs with max_tokens {max_tokens}")
        pairs = [await _pair(session, max_tokens, number) for number in range(rounds)]
        costs += _costs(pairs, max_tokens)
    return costs


async def _pair(session: Session, max_tokens: int, number: int) -> dict[str, Record]:
    """Sends a request over each, in changing order, so that drift favours neither."""
    order = ("rest", "grpc") if number % 2 else ("grpc", "rest")
    pair = {name: await session.send(name, max_tokens=max_tokens) for name in order}
    for name, record in pair.items():
        if record.error is not None:
            raise BenchError(f"the gateway's cost is not known: {name} failed, {record.error}")
    return pair


def _costs(pairs: list[dict[str, Record]], max_tokens: int) -> list[Cost]:
    costs = []
    for figure in ("ttft", "itl"):
        rest = [getattr(pair["rest"], figure) for pair in pairs]
        grpc = [getattr(pair["grpc"], figure) for pair in pairs]
        if None not in rest + grpc:
            costs.append(Cost.of(f"{figure.upper()}, {max_tokens} out", rest, grpc))
    return costs
