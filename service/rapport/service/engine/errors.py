"""The errors of the engine.

EngineError
├── OverloadedError              a limit on accepted work is reached; try again later
├── EngineUnavailableError       not started, draining, stopped or dead
├── UnserviceableRequestError    the request can never fit this engine
├── StepFailedError              the runtime failed while it ran this request
├── InvalidLogitsError           the model computed no finite logits for this request
├── OutOfMemoryError             the runtime found no memory for this request; try again later
├── ConstraintFailedError        the grammar of this request cannot be followed
└── RequestCancelledError        the caller disconnected, or its deadline expired
"""

from __future__ import annotations

from enum import StrEnum


class EngineError(Exception):
    """Base of all errors of the engine."""


class Bound(StrEnum):
    """The limit that a refused request would have exceeded."""

    REQUESTS = "requests"
    """Requests in the waiting queue."""
    PROMPT_TOKENS = "prompt_tokens"
    """Prompt tokens of the requests in the waiting queue."""
    TTFT = "ttft"
    """The predicted time to the first token."""
    RPCS = "rpcs"
    """RPCs of the chat service in flight."""
    GRAMMARS = "grammars"
    """Grammars being compiled."""


class OverloadedError(EngineError):
    """A limit on accepted work is reached. `retry_after` is in seconds."""

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


class InvalidLogitsError(EngineError):
    """The model computed no finite logits for the request: its numbers have overflowed."""

    def __init__(self) -> None:
        super().__init__("the model computed no finite logits")


class OutOfMemoryError(EngineError):
    """The runtime found no memory for the request."""

    def __init__(self) -> None:
        super().__init__("there is no memory left for the request")


class ConstraintFailedError(EngineError):
    """The grammar of a request became too complex to follow, or admits nothing."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the grammar cannot be followed: {reason}")
        self.reason = reason


class RequestCancelledError(EngineError):
    """The caller disconnected, or its deadline expired."""


# ONNX Runtime has no exception type for this; these are the messages of its allocators and of CUDA.
_OUT_OF_MEMORY_TEXTS = (
    "Failed to allocate memory",
    "bad_alloc",
    "smaller than requested bytes",
    "CUDA failure 2:",
    "cudaErrorMemoryAllocation",
)


def failure_of(error: BaseException) -> EngineError:
    """The error that the requests of a step get when the step raised `error`."""
    if isinstance(error, EngineError):
        return error
    if isinstance(error, MemoryError) or any(text in str(error) for text in _OUT_OF_MEMORY_TEXTS):
        return OutOfMemoryError()
    return StepFailedError(f"the runtime failed: {type(error).__name__}")
