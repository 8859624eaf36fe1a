"""The bench of precisions."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bench import precisions


def test_a_precision_that_is_none_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        precisions.main(["int3"])
    assert "'int3' is none of int4" in capsys.readouterr().err


def test_each_run_has_a_time_in_each_precision(
    int4_folder: Path,
    int8_folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    del int4_folder, int8_folder  # they are imported before
    monkeypatch.setattr(precisions, "ROWS", (1, 2))
    monkeypatch.setattr(precisions, "SLICES", (8,))
    precisions.main(["int4", "int8", "--rounds", "1"])
    head, rule, *rows = capsys.readouterr().out.splitlines()
    assert (head, rule) == ("| | int4 | int8 |", "|---|--:|--:|")
    assert [row.split(" | ")[0] for row in rows] == [f"| {name}" for name in precisions.runs()]
    assert all(re.fullmatch(r"\| .+ \| \d+\.\d \| \d+\.\d \|", row) for row in rows)
