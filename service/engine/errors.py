"""What can go wrong in the engine.

EngineError
├── Overloaded      the queue is full; try again later
├── Unavailable     not started, draining, stopped or dead
├── Unserviceable   the request can never fit this engine
├── StepFailed      the runtime failed under this request
├── ConstraintFailed    (constraint.py) the request's grammar cannot be followed
└── Cancelled       the caller left
"""

from __future__ import annotations


class EngineError(Exception):
    """Base of all errors of the engine."""


class Overloaded(EngineError):
    """The queue is full. `retry_after` is in seconds."""

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Unavailable(EngineError):
    """The engine takes no requests now."""


class Unserviceable(EngineError):
    """The request can never fit this engine."""


class StepFailed(EngineError):
    """The runtime failed in a step that the request was part of."""


class Cancelled(EngineError):
    """The caller left."""
