"""The comparison as pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from bench.versus.measuring import Run
from bench.versus.options import PEER
from bench.versus.results import Row
from bench.versus.rounds import RAPPORT

COLOURS = {RAPPORT: "#1f77b4", PEER: "#999999"}
AHEAD, BEHIND = "#1f77b4", "#d62728"
DPI = 150
RATIOS, ROUNDS = "versus-ratios.png", "versus-rounds.png"


def plot(rows: Sequence[Row], runs: Sequence[Run], folder: Path) -> list[Path]:
    """Writes both pictures, unless there is nothing to compare; returns their paths."""
    compared = [row for row in rows if row.ratio is not None]
    if not compared:
        return []
    pictures = {RATIOS: ratios(compared), ROUNDS: rounds(compared, runs)}
    for name, picture in pictures.items():
        picture.savefig(folder / name, dpi=DPI)
    return [folder / name for name in pictures]


def ratios(rows: Sequence[Row]) -> Figure:
    """How far ahead, figure by figure, with the middle half of the rounds and the goals."""
    picture = Figure(figsize=(9, 0.42 * len(rows) + 1.4), layout="constrained")
    axes = picture.add_subplot()
    for place, row in enumerate(reversed(rows)):
        ratio = row.ratio or 0.0
        axes.barh(place, ratio, color=AHEAD if ratio >= 1 else BEHIND, height=0.6)
        axes.plot([row.ratio_p25 or 0.0, row.ratio_p75 or 0.0], [place, place], color="black")
        axes.plot(row.goal, place, marker="|", color="black", markersize=14)
        axes.annotate(f" {ratio:.2f}", (max(ratio, row.ratio_p75 or 0.0), place), va="center")
    axes.set_yticks(range(len(rows)), [f"{row.title}: {row.figure}" for row in reversed(rows)])
    axes.axvline(1, color="black", linewidth=1)
    _plain_logarithms(axes)
    axes.set_xlabel("times as good as llama-server")
    return picture


def rounds(rows: Sequence[Row], runs: Sequence[Run]) -> Figure:
    """Every round of every figure, so that noise and drift can be seen."""
    columns = 3
    height = -(-len(rows) // columns)
    picture = Figure(figsize=(4.2 * columns, 2.6 * height), layout="constrained")
    grid = picture.subplots(height, columns, squeeze=False)
    for place, axes in enumerate(grid.flat):
        if place < len(rows):
            _rounds_of(axes, rows[place], _index(rows, place), runs)
        else:
            axes.set_axis_off()
    picture.legend(*grid[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return picture


def _rounds_of(axes: Axes, row: Row, number: int, runs: Sequence[Run]) -> None:
    for server, colour in COLOURS.items():
        shown = [
            run
            for run in runs
            if (run.workload, run.server) == (row.workload, server)
            if not (run.pilot or run.error)
            if server == RAPPORT or run.variant == row.peer_variant
        ]
        values = [run.figures[number] for run in shown]
        axes.plot([run.round + 1 for run in shown], values, "o-", color=colour, label=server)
    axes.set_ylim(bottom=0)
    axes.set_title(f"{row.title}\n{row.figure} ({row.unit or 'part'})", fontsize=8)


def _index(rows: Sequence[Row], place: int) -> int:
    """Which of its workload's figures a row is."""
    return sum(row.workload == rows[place].workload for row in rows[:place])


def _plain_logarithms(axes: Axes) -> None:
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.margins(x=0.12)
