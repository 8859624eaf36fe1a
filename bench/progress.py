"""What the bench is at, for whoever waits for it."""

from __future__ import annotations

import sys


def tell(what: str) -> None:
    print(f"bench: {what} …", file=sys.stderr, flush=True)
