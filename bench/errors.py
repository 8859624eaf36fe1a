"""What can go wrong in the bench itself."""

from __future__ import annotations


class BenchError(Exception):
    """The bench cannot go on; the message is one line that says why."""


class RequestFailedError(Exception):
    """A request did not end well; the text is short, since requests are counted by it."""
