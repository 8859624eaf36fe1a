"""Rounds of measurements: server beside server, so that drift of the machine favours neither."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from bench.errors import BenchError
from bench.load import Open
from bench.progress import show_progress
from bench.versus.catalog import CAPACITY, OPEN_MIX
from bench.versus.figures import Workload
from bench.versus.measuring import Contender, Run, measure

RAPPORT = "rapport"
# Of the open loop, in seconds.
DURATION = 15.0
PEER_LOAD = 0.7
RAPPORT_LOAD = 1.5 * PEER_LOAD


@dataclass(slots=True)
class Match:
    """A workload and who takes part in it."""

    workload: Workload
    contenders: list[Contender]


@dataclass(slots=True)
class Comparison:
    """All that is measured."""

    runs: list[Run]
    pilot_rounds: int = 2
    capacity: float | None = None
    """Requests of the open loop's mix that the peer can answer in a second."""
    strongest: str | None = None
    """The variant of the peer that can."""

    def choose(self, match: Match) -> None:
        """Leaves one variant of the peer in the match: the one that does best in a pilot.

        For the open loop that is what bears the most of its mix: in the loop itself all variants
        may be late with all answers.
        """
        peers = [one for one in match.contenders if one.server != RAPPORT]
        if len(peers) > 1:
            if match.workload.name == OPEN_MIX and self.strongest is not None:
                best = next(one for one in peers if one.variant == self.strongest)
            else:
                best = self._pilot(match.workload, peers)
            match.contenders = [one for one in match.contenders if one not in peers or one is best]

    def measure_capacity(self, peers: Sequence[Contender]) -> float:
        """Finds what the peer can bear of the open loop's mix."""
        best = self._pilot(CAPACITY, peers)
        runs = [run for run in self.runs if run.workload == CAPACITY.name]
        self.strongest = best.variant
        self.capacity = medians([run for run in runs if run.variant == best.variant])[0]
        return self.capacity

    def play(self, matches: Sequence[Match], rounds: int, after_each: Callable[[], None]) -> None:
        """Measures everybody in turn; who is first changes from round to round."""
        for number in range(rounds):
            for match in matches:
                if number < match.workload.max_rounds:
                    for contender in match.contenders[:: -1 if number % 2 else 1]:
                        self._measure(match.workload, contender, number)
                    after_each()

    def _pilot(self, workload: Workload, peers: Sequence[Contender]) -> Contender:
        runs: dict[str, list[Run]] = {peer.variant: [] for peer in peers}
        for number in range(self.pilot_rounds):
            for peer in peers[:: -1 if number % 2 else 1]:
                runs[peer.variant].append(self._measure(workload, peer, number, pilot=True))
        best = best_variant(workload, runs)
        return next(peer for peer in peers if peer.variant == best)

    def _measure(
        self, workload: Workload, contender: Contender, number: int, *, pilot: bool = False
    ) -> Run:
        kind = "pilot" if pilot else "round"
        show_progress(
            f"{kind} {number + 1}: {workload.name}, {contender.server} {contender.variant}"
        )
        arrivals = self._arrivals(contender.server, number)
        self.runs.append(measure(workload, contender, number, pilot=pilot, arrivals=arrivals))
        if error := self.runs[-1].error:
            show_progress(f"failed: {error}")
        return self.runs[-1]

    def _arrivals(self, server: str, number: int) -> Open | None:
        if self.capacity is None:
            return None
        load = RAPPORT_LOAD if server == RAPPORT else PEER_LOAD
        return Open(load * self.capacity, DURATION, seed=number)


def best_variant(workload: Workload, runs: dict[str, list[Run]]) -> str:
    """The variant whose median of the workload's first figure is best.

    Raises:
        BenchError: none could be measured.
    """
    measured = {
        variant: medians(tried)[0]
        for variant, tried in runs.items()
        if any(run.error is None for run in tried)
    }
    if not measured:
        errors = {run.error for tried in runs.values() for run in tried}
        raise BenchError(f"{workload.name}: no variant of the peer works: {errors}")
    choose = max if workload.figures[0].higher_is_better else min
    return choose(measured, key=lambda variant: measured[variant])


def medians(runs: Sequence[Run]) -> list[float]:
    """Of each figure over the runs that went well; none where none did."""
    good = [run.figures for run in runs if run.error is None]
    return [float(value) for value in np.median(good, axis=0)] if good else []
