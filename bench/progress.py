"""Progress of the bench, on standard error."""

from __future__ import annotations

import sys


def show_progress(what: str) -> None:
    """Prints what is being measured."""
    print(f"bench: {what} …", file=sys.stderr, flush=True)
