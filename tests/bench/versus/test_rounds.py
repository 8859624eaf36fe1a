from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from bench.errors import BenchError
from bench.server import Target
from bench.versus.catalog import OPEN_MIX
from bench.versus.figures import Figure, Measured, Setup, Stage, Workload
from bench.versus.measuring import Contender, Run
from bench.versus.rounds import Comparison, Match

SPEED = Figure("speed", "tokens/s", 1)


async def nothing(_: Stage) -> Measured:
    return Measured([1.0])


def workload(name: str = "w", **more: Any) -> Workload:
    return Workload(name, "a workload", (SPEED,), (Setup(),), nothing, **more)


def contender(server: str, variant: str) -> Contender:
    @contextmanager
    def start() -> Iterator[Target]:
        raise BenchError(f"{server} does not start")
        yield

    return Contender(server, variant, [server], start)


def test_who_is_first_changes_and_a_failure_stops_nobody() -> None:
    """Each round has both, in turned order; what cannot start is written down as failed."""
    match = Match(workload(max_rounds=2), [contender("rapport", "a"), contender("peer", "b")])
    comparison = Comparison([])
    written: list[int] = []
    comparison.play([match], 3, lambda: written.append(len(comparison.runs)))
    order = [run.server for run in comparison.runs]
    assert order == ["rapport", "peer", "peer", "rapport"]
    assert written == [2, 4]
    assert comparison.runs[0].error == "rapport does not start"


def test_the_pilot_leaves_the_best_variant(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two rounds of the peer alone decide; Rapport has one setting and no pilot."""
    speeds = {"slow": 1.0, "fast": 2.0}

    def measure(_: Workload, one: Contender, number: int, *, pilot: bool, **__: Any) -> Run:
        return Run("w", one.server, one.variant, number, pilot, figures=[speeds[one.variant]])

    monkeypatch.setattr("bench.versus.rounds.measure", measure)
    peers = [contender("peer", variant) for variant in speeds]
    match = Match(workload(), [contender("rapport", "as it comes"), *peers])
    comparison = Comparison([])
    comparison.choose(match)
    assert [one.variant for one in match.contenders] == ["as it comes", "fast"]
    assert [run.variant for run in comparison.runs] == ["slow", "fast", "fast", "slow"]
    assert all(run.pilot for run in comparison.runs)


def test_what_bears_most_of_the_mix_is_the_best_for_the_open_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The load is a part of what that variant bears, so nothing else is tried in the loop."""
    bears = {"weak": 1.0, "strong": 2.0}

    def measure(tried: Workload, one: Contender, number: int, *, pilot: bool, **_: Any) -> Run:
        return Run(tried.name, "peer", one.variant, number, pilot, figures=[bears[one.variant]])

    monkeypatch.setattr("bench.versus.rounds.measure", measure)
    comparison = Comparison([], pilot_rounds=1)
    assert comparison.measure_capacity([contender("peer", variant) for variant in bears]) == 2
    match = Match(workload(OPEN_MIX), [contender("peer", variant) for variant in bears])
    comparison.choose(match)
    assert [one.variant for one in match.contenders] == ["strong"]
    assert OPEN_MIX not in {run.workload for run in comparison.runs}


def test_the_open_loop_bears_more_on_rapport(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the peer's capacity the peer gets 70 %, Rapport half as much again, arrivals alike."""
    rates = {}

    def measure(_: Workload, one: Contender, number: int, **given: Any) -> Run:
        rates[one.server] = given["arrivals"]
        return Run("w", one.server, one.variant, number, pilot=False, figures=[1.0])

    monkeypatch.setattr("bench.versus.rounds.measure", measure)
    comparison = Comparison([], capacity=10.0)
    both = [contender("rapport", "a"), contender("peer", "b")]
    comparison.play([Match(workload(), both)], 1, lambda: None)
    assert rates["peer"].rate == pytest.approx(7.0)
    assert rates["rapport"].rate == pytest.approx(10.5)
    assert rates["peer"].seed == rates["rapport"].seed
