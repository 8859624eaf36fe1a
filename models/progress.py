"""Progress of long work: called with what is being done and how much of it is, from 0 to 1."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, TaskProgressColumn, TextColumn
from rich.progress import Progress as Bars

Progress = Callable[[str, float], None]


def silent(what: str, done: float) -> None:
    """Report nothing."""


@contextmanager
def shown() -> Iterator[Progress]:
    """Show progress on standard error: a bar on a terminal, else a line for each step."""
    console = Console(stderr=True)
    if console.is_terminal:
        with bars(console) as progress:
            yield progress
    else:
        yield lines(console)


@contextmanager
def bars(console: Console) -> Iterator[Progress]:
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn())
    with Bars(*columns, console=console, transient=True) as display:
        task = display.add_task("", total=1.0)

        def update(what: str, done: float) -> None:
            display.update(task, description=what, completed=min(done, 1.0))

        yield update


def lines(console: Console) -> Progress:
    last = ""

    def update(what: str, done: float) -> None:  # noqa: ARG001
        nonlocal last
        if what != last:
            console.print(f"{what} …", markup=False, highlight=False, soft_wrap=True)
            last = what

    return update
