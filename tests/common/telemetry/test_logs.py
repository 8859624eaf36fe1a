"""A process that logs, and all that it says on standard error."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest

ROOT = Path(__file__).parents[3]
SET_UP = """
import asyncio, logging, sys, threading, warnings
from rapport.common.settings import Settings, load
from rapport.common.telemetry.logs import set_up
set_up(load(Settings, sys.argv[1:]))
"""

FORGOTTEN_TASK = """
async def fail():
    raise ValueError(secret)
async def main():
    asyncio.create_task(fail())
    await asyncio.sleep(0.01)
secret = "secret"
asyncio.run(main())
"""


def said(program: str, *flags: str) -> str:
    """What a program says once it has set its log up."""
    command = [sys.executable, "-c", SET_UP + program, *flags]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False).stderr


def objects(program: str, *flags: str) -> list[dict[str, Any]]:
    lines = said(program, "--log-format", "json", *flags).splitlines()
    return [orjson.loads(line) for line in lines]


def test_text_is_what_one_gets() -> None:
    """Without a setting lines are text."""
    assert said("logging.getLogger('a').info('hello')").endswith("Z INFO hello\n")


def test_level() -> None:
    """What is below the level is not logged."""
    assert said("logging.getLogger('a').info('hello')", "--log-level", "warning") == ""


@pytest.mark.parametrize(
    ("program", "logger", "expected"),
    [
        ("warnings.warn('careful')", "py.warnings", "UserWarning: careful"),
        ("raise ValueError('at the start')", "rapport.process", "ValueError: at the start"),
        (
            "t = threading.Thread(target=lambda: 1 / 0, name='T'); t.start(); t.join()",
            "rapport.process",
            "the thread T died",
        ),
        (
            "class Bad:\n  def __del__(self): 1 / 0\nBad()",
            "rapport.process",
            "an error in a <class 'function'> was ignored",
        ),
        (FORGOTTEN_TASK, "asyncio", "Task exception was never retrieved"),
    ],
)
def test_all_that_goes_wrong_is_json(program: str, logger: str, expected: str) -> None:
    """Warnings and what nobody catches are JSON objects, each on one line."""
    [line] = objects(program)
    assert line["logger"] == logger
    assert expected in line["message"]
    assert "secret" not in str(line)


def test_the_last_lines_are_written() -> None:
    """What is logged just before the end is not lost."""
    lines = objects("for n in range(1000): logging.getLogger('a').info('%d', n)")
    assert [line["message"] for line in lines] == [str(n) for n in range(1000)]


def test_content_shows_tasks() -> None:
    """With content, asyncio tells what the exception was."""
    [line] = objects(FORGOTTEN_TASK, "--log-content")
    assert "secret" in line["message"]
    assert "ValueError: secret" in line["exception"]
