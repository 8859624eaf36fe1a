"""The bench of sampling."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import sampling


def test_every_way_is_measured(
    int4_folder: Path, int8_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A line for each, of a model's own logits."""
    del int4_folder, int8_folder  # the one that is served here is imported before
    sampling.main(["--rounds", "1"])
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines()]
    assert [row[0] for row in rows] == [f"| {name}" for name in sampling.runs(2000)]
    assert all(float(row[1].removesuffix(" |")) > 0 for row in rows)
