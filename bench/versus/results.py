"""What the runs come to: medians, ratios, a table, JSON, and a README's part."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import orjson

from bench.errors import BenchError
from bench.report import Machine
from bench.versus.figures import Figure, Workload
from bench.versus.measuring import Run
from bench.versus.rounds import RAPPORT, best_variant

BEGIN, END = "<!-- bench-versus -->", "<!-- /bench-versus -->"
# Three significant digits are more than a round's noise leaves.
DIGITS = 3

Values = dict[int, float]
"""A figure by round."""


def portable(command: Sequence[str]) -> list[str]:
    """A command without the places where one machine keeps its files: their names alone."""
    return [Path(word).name if Path(word).is_absolute() else word for word in command]


@dataclass(frozen=True, slots=True)
class Row:
    """One figure of one workload; what was not measured is none."""

    workload: str
    title: str
    figure: str
    unit: str
    goal: float
    rapport: float | None = None
    peer: float | None = None
    peer_variant: str = ""
    ratio: float | None = None
    """How many times as good Rapport is as the peer, in the median of the rounds: a round's
    servers run one after the other, while the machine's pace drifts over hours."""
    ratio_p25: float | None = None
    ratio_p75: float | None = None
    rounds: int = 0
    """In which both were measured, or the only one was."""


@dataclass(slots=True)
class Results:
    """One run of the comparison. Times are in seconds, memory is in bytes."""

    versions: dict[str, str]
    rows: list[Row] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)
    capacity: float | None = None
    """Requests of the open loop's mix that the peer can answer in a second."""
    commands: dict[str, list[str]] = field(default_factory=dict)
    """How each variant was started, less its address."""
    when: datetime = field(default_factory=lambda: datetime.now(UTC))
    command: list[str] = field(default_factory=lambda: portable(sys.argv[1:]))
    machine: Machine = field(default_factory=Machine)

    def write(self, folder: Path) -> None:
        """Writes versus.json and versus.md."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "versus.json").write_bytes(orjson.dumps(self, option=orjson.OPT_INDENT_2))
        (folder / "versus.md").write_text(table(self.rows) + "\n")


def rows_of(workload: Workload, runs: Sequence[Run]) -> list[Row]:
    """A row for each of the workload's figures, from the rounds that went well."""
    good = [run for run in runs if run.workload == workload.name and not (run.pilot or run.error)]
    rapport = {run.round: run for run in good if run.server == RAPPORT}
    peers: dict[str, list[Run]] = {}
    for run in good:
        if run.server != RAPPORT:
            peers.setdefault(run.variant, []).append(run)
    best = best_variant(workload, peers) if peers else ""
    peer = {run.round: run for run in peers.get(best, [])}
    return [
        _row(
            Row(workload.name, workload.title, figure.name, figure.unit, figure.goal),
            figure,
            {one: run.figures[number] for one, run in rapport.items()},
            {one: run.figures[number] for one, run in peer.items()},
            best,
        )
        for number, figure in enumerate(workload.figures)
    ]


def _row(empty: Row, figure: Figure, rapport: Values, peer: Values, variant: str) -> Row:
    ours, theirs = (
        float(np.median(list(values.values()))) if values else None for values in (rapport, peer)
    )
    row = replace(empty, rapport=ours, peer=theirs, peer_variant=variant)
    both = rapport.keys() & peer.keys()
    if ours is None or theirs is None or not both:
        return replace(row, rounds=len(rapport or peer))
    ratios = [figure.ratio(rapport[number], peer[number]) for number in both]
    low, middle, high = np.percentile(ratios, [25, 50, 75]).tolist()
    return replace(row, ratio=middle, ratio_p25=low, ratio_p75=high, rounds=len(both))


def table(rows: Sequence[Row]) -> str:
    """A Markdown table. Ratios above 1 are in Rapport's favour, whichever way is better."""
    lines = [
        "| workload | figure | Rapport | llama-server | its settings | ratio (p25 to p75) | goal |",
        "|---|---|--:|--:|---|--:|--:|",
    ]
    for row in rows:
        figure = f"{row.figure} ({row.unit})" if row.unit else row.figure
        values = (_plain(row.rapport), _plain(row.peer), row.peer_variant, _spread(row))
        lines.append(f"| {' | '.join((row.title, figure, *values, f'{row.goal:.2g}'))} |")
    return "\n".join(lines)


def refresh(readme: Path, content: str) -> None:
    """Puts the content between the file's marks.

    Raises:
        BenchError: the file has no such marks.
    """
    text = readme.read_text() if readme.is_file() else ""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise BenchError(f"{readme} has no lines {BEGIN} and {END}")
    readme.write_text(f"{before}{BEGIN}\n\n{content}\n\n{END}{after}")


def _spread(row: Row) -> str:
    if row.ratio is None:
        return "-"
    return f"{row.ratio:.2f} ({row.ratio_p25:.2f} to {row.ratio_p75:.2f})"


def _plain(value: float | None) -> str:
    """Three significant digits, never in the notation with an exponent."""
    if value is None:
        return "-"
    if not value:
        return "0"
    return f"{value:.{max(DIGITS - 1 - math.floor(math.log10(abs(value))), 0)}f}"
