from __future__ import annotations

from pathlib import Path

from bench.versus.catalog import WORKLOADS
from bench.versus.measuring import Run
from bench.versus.plots import plot
from bench.versus.results import rows_of


def test_pictures_are_drawn_of_what_was_compared(tmp_path: Path) -> None:
    """Two pictures where both servers were measured, none where one was."""
    runs = [
        Run(workload.name, server, "only", number, pilot=False, figures=[value, value])
        for workload in WORKLOADS
        for number in range(2)
        for server, value in (("rapport", 1.0), ("llama-server", 2.0 + number))
    ]
    rows = [row for workload in WORKLOADS for row in rows_of(workload, runs)]
    for picture in plot(rows, runs, tmp_path):
        assert picture.read_bytes().startswith(b"\x89PNG")
    assert len(list(tmp_path.iterdir())) == 2
    alone = [run for run in runs if run.server == "rapport"]
    assert plot(rows_of(WORKLOADS[0], alone), alone, tmp_path) == []
