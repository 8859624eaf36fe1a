"""Shows the progress of long work: what is being done, and how much of it, from 0 to 1."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from rich.console import Console
from rich.progress import BarColumn, TaskProgressColumn, TextColumn
from rich.progress import Progress as Bars

Progress = Callable[[str, float], None]

logger = logging.getLogger(__name__)


def silent(what: str, done: float) -> None:
    """Reports nothing."""


@contextmanager
def shown() -> Iterator[Progress]:
    """Shows progress on standard error: a bar on a terminal, otherwise a line for each step."""
    console = Console(stderr=True)
    if console.is_terminal:
        with bars(console) as progress:
            yield progress
    else:
        yield _lines(partial(console.print, markup=False, highlight=False, soft_wrap=True))


def logged() -> Progress:
    """Logs a line for each step."""
    return _lines(logger.info)


@contextmanager
def bars(console: Console) -> Iterator[Progress]:
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn())
    with Bars(*columns, console=console, transient=True) as display:
        task = display.add_task("", total=1.0)

        def update(what: str, done: float) -> None:
            display.update(task, description=what, completed=min(done, 1.0))

        yield update


def _lines(say: Callable[[str], None]) -> Progress:
    last = ""

    def update(what: str, done: float) -> None:  # noqa: ARG001
        nonlocal last
        if what != last:
            say(f"{what} …")
            last = what

    return update
