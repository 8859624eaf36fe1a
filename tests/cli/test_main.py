"""The `rapport` command itself."""

from __future__ import annotations

import re

import pytest

from rapport.cli.__main__ import MODULES, main


@pytest.mark.parametrize("arguments", [["--version"], *([name, "--version"] for name in MODULES)])
def test_version(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """The version is that of the distribution, whatever command is asked for it."""
    assert main(arguments) == 0
    assert re.fullmatch(r"rapport \d+\.\d+\.\d+\n", capsys.readouterr().out)
