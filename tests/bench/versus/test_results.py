from __future__ import annotations

from pathlib import Path

import pytest

from bench.errors import BenchError
from bench.versus.catalog import WORKLOADS
from bench.versus.figures import MAX_RATIO, Figure, Workload
from bench.versus.measuring import Run
from bench.versus.results import BEGIN, END, portable, refresh, rows_of, table
from bench.versus.rounds import best_variant

COLD = next(workload for workload in WORKLOADS if workload.name == "cold-prompt")
SPEED = next(workload for workload in WORKLOADS if workload.name == "one-stream")


def run(workload: Workload, server: str, number: int, value: float, **more: object) -> Run:
    made = Run(workload.name, server, "only", number, pilot=False, figures=[value])
    for name, given in more.items():
        setattr(made, name, given)
    return made


def test_a_ratio_above_one_is_ahead_whichever_way_is_better() -> None:
    """Half the time is as good as twice the speed."""
    assert Figure("TTFT", "s", 1, higher_is_better=False).ratio(2.0, 4.0) == 2
    assert Figure("speed", "tokens/s", 1).ratio(4.0, 2.0) == 2
    assert Figure("speed", "tokens/s", 1).ratio(4.0, 0.0) == MAX_RATIO
    assert Figure("speed", "tokens/s", 1).ratio(0.0, 4.0) == 0
    assert Figure("speed", "tokens/s", 1).ratio(0.0, 0.0) == 1


def test_a_row_has_medians_and_the_ratios_within_rounds() -> None:
    """The ratio is the median of those of the rounds; pilots and failures are left out."""
    runs = [run(COLD, "rapport", n, value) for n, value in enumerate([1.0, 2.0, 9.0])]
    runs += [run(COLD, "llama-server", n, value) for n, value in enumerate([3.0, 8.0, 9.0])]
    runs += [run(COLD, "rapport", 3, 99.0, error="failed")]
    runs += [run(COLD, "llama-server", 0, 99.0, pilot=True)]
    (row,) = rows_of(COLD, runs)
    assert (row.rapport, row.peer, row.ratio, row.rounds) == (2.0, 8.0, 3.0, 3)
    assert (row.ratio_p25, row.ratio_p75) == pytest.approx((2.0, 3.5))


def test_of_the_peer_the_better_variant_counts() -> None:
    """Where all variants ran in all rounds, the row is of the one with the best median."""
    runs = [run(COLD, "rapport", 0, 1.0)]
    runs += [
        run(COLD, "llama-server", 0, value, variant=name)
        for name, value in (("a", 3.0), ("b", 2.0))
    ]
    (row,) = rows_of(COLD, runs)
    assert (row.peer_variant, row.peer, row.ratio) == ("b", 2.0, 2.0)


@pytest.mark.parametrize(("workload", "best"), [(COLD, "low"), (SPEED, "high")])
def test_the_pilot_keeps_what_is_better_by_the_first_figure(workload: Workload, best: str) -> None:
    """The least time, the most speed; a variant that failed is no choice."""
    runs = {
        "low": [run(workload, "llama-server", 0, 1.0)],
        "high": [run(workload, "llama-server", 0, 2.0)],
        "broken": [run(workload, "llama-server", 0, 0.0, error="no such flag")],
    }
    assert best_variant(workload, runs) == best
    with pytest.raises(BenchError, match="no such flag"):
        best_variant(workload, {"broken": runs["broken"]})


def test_what_is_missing_is_a_dash_in_the_table() -> None:
    """A server that was not asked for leaves a gap, not a zero."""
    (row,) = rows_of(COLD, [run(COLD, "rapport", 0, 0.012345)])
    last = table([row]).splitlines()[-1]
    assert "| TTFT (s) | 0.0123 | - |  | - | 2 |" in last


def test_the_readme_is_changed_between_its_marks_alone(tmp_path: Path) -> None:
    """Twice the same gives the same; a file without marks is refused."""
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    for _ in range(2):
        refresh(readme, "new")
        assert readme.read_text() == f"before\n{BEGIN}\n\nnew\n\n{END}\nafter\n"
    readme.write_text("no marks")
    with pytest.raises(BenchError, match="no lines"):
        refresh(readme, "new")


def test_commands_name_no_place_of_one_machine() -> None:
    """Files are named; flags, settings and relative paths stay as they are."""
    command = ["/opt/llama/llama-server", "--model", "/home/me/a.gguf", "-np", "8", "bench/results"]
    wanted = ["llama-server", "--model", "a.gguf", "-np", "8", "bench/results"]
    assert portable(command) == wanted
