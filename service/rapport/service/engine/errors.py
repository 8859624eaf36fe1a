"""What can go wrong in the engine.

EngineError
├── OverloadedError              a limit on accepted work is reached; try again later
├── EngineUnavailableError       not started, draining, stopped or dead
├── UnserviceableRequestError    the request can never fit this engine
├── StepFailedError              the runtime failed while it ran this request
├── OutOfMemoryError             the runtime found no memory for this request; try again later
├── ConstraintFailedError        (sampling/constraint.py) the grammar cannot be followed
└── RequestCancelledError        the caller left
"""

from __future__ import annotations

from enum import StrEnum


class EngineError(Exception):
    """Base of all errors of the engine."""


class Bound(StrEnum):
    """What there is too much of where a request is refused for overload."""

    REQUESTS = "requests"
    """In line."""
    PROMPT_TOKENS = "prompt_tokens"
    """Of the requests in line."""
    TTFT = "ttft"
    """The time that is foreseen to the first token."""
    RPCS = "rpcs"
    """Of the chat service, under way."""
    GRAMMARS = "grammars"
    """Being compiled."""


class OverloadedError(EngineError):
    """One of the bounds on what is taken on is reached. `retry_after` is in seconds."""

    def __init__(self, message: str, bound: Bound, retry_after: float) -> None:
        super().__init__(message)
        self.bound = bound
        self.retry_after = retry_after


class EngineUnavailableError(EngineError):
    """The engine takes no requests now."""


class UnserviceableRequestError(EngineError):
    """The request can never fit this engine."""


class StepFailedError(EngineError):
    """The runtime failed in a step that the request was part of."""


class OutOfMemoryError(EngineError):
    """The runtime found no memory for the request."""

    def __init__(self) -> None:
        super().__init__("there is no memory left for the request")


class RequestCancelledError(EngineError):
    """The caller left."""


# In the words of ONNX Runtime's two allocators; it has no type for it.
_NO_MEMORY = ("Failed to allocate memory", "bad_alloc")


def failure_of(error: Exception) -> EngineError:
    """What an error under a step means for its requests."""
    if isinstance(error, EngineError):
        return error
    if isinstance(error, MemoryError) or any(words in str(error) for words in _NO_MEMORY):
        return OutOfMemoryError()
    return StepFailedError(f"the runtime failed: {type(error).__name__}")
