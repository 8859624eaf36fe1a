"""Errors as gRPC statuses with google.rpc details: the one place that knows both."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, QuotaFailure, RetryInfo
from google.rpc.status_pb2 import Status

from rapport.service.engine.errors import (
    EngineUnavailableError,
    OutOfMemoryError,
    OverloadedError,
    RequestCancelledError,
    StepFailedError,
    UnserviceableRequestError,
)
from rapport.service.engine.sampling.constraint import ConstraintFailedError
from rapport.service.errors import (
    MAX_MESSAGE_BYTES,
    FieldViolation,
    InvalidRequestError,
    ModelForbiddenError,
    ModelNotFoundError,
    NotReadyError,
    PromptTooLongError,
    RateLimitedError,
    RequestMissingError,
    SlowReaderError,
    UnauthenticatedError,
    UnreadableRequestError,
    truncate,
)

DOMAIN = "rapport.v1"
DEFAULT_RETRY_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Kind:
    """How an error looks on the wire, beyond what it says itself."""

    code: grpc.StatusCode
    reason: str
    metadata: dict[str, str] = field(default_factory=dict)
    # Stands in for an error's own text where that is none of the caller's business.
    bland: str | None = None


KINDS: dict[type[Exception], Kind] = {
    InvalidRequestError: Kind(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST"),
    UnreadableRequestError: Kind(grpc.StatusCode.INVALID_ARGUMENT, "UNREADABLE"),
    PromptTooLongError: Kind(grpc.StatusCode.INVALID_ARGUMENT, "PROMPT_TOO_LONG"),
    ModelNotFoundError: Kind(grpc.StatusCode.NOT_FOUND, "MODEL_NOT_FOUND", {"param": "model"}),
    ModelForbiddenError: Kind(
        grpc.StatusCode.PERMISSION_DENIED, "MODEL_FORBIDDEN", {"param": "model"}
    ),
    RateLimitedError: Kind(grpc.StatusCode.RESOURCE_EXHAUSTED, "RATE_LIMITED"),
    UnauthenticatedError: Kind(grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED"),
    RequestMissingError: Kind(grpc.StatusCode.CANCELLED, "REQUEST_MISSING"),
    NotReadyError: Kind(grpc.StatusCode.UNAVAILABLE, "UNAVAILABLE"),
    SlowReaderError: Kind(grpc.StatusCode.ABORTED, "READER_STUCK"),
    OverloadedError: Kind(grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED"),
    OutOfMemoryError: Kind(grpc.StatusCode.RESOURCE_EXHAUSTED, "OUT_OF_MEMORY"),
    EngineUnavailableError: Kind(grpc.StatusCode.UNAVAILABLE, "UNAVAILABLE"),
    UnserviceableRequestError: Kind(grpc.StatusCode.INVALID_ARGUMENT, "UNSERVICEABLE"),
    ConstraintFailedError: Kind(grpc.StatusCode.INVALID_ARGUMENT, "GRAMMAR_FAILED"),
    RequestCancelledError: Kind(grpc.StatusCode.CANCELLED, "CANCELLED"),
    StepFailedError: Kind(
        grpc.StatusCode.INTERNAL, "GENERATION_FAILED", bland="The model failed to generate"
    ),
    Exception: Kind(grpc.StatusCode.INTERNAL, "INTERNAL", bland="Internal error"),
}


def kind_of(error: Exception) -> Kind:
    """The row of the nearest of the error's classes."""
    return next(KINDS[ancestor] for ancestor in type(error).__mro__ if ancestor in KINDS)


def status_of(error: Exception) -> Status:
    """The status that tells a caller of the error."""
    kind = kind_of(error)
    code: int = kind.code.value[0]
    details = [_packed(detail) for detail in _details(error, kind)]
    message = truncate(kind.bland or str(error), MAX_MESSAGE_BYTES)
    return Status(code=code, message=message, details=details)


def _details(error: Exception, kind: Kind) -> Iterator[Message]:
    yield ErrorInfo(domain=DOMAIN, reason=kind.reason, metadata=kind.metadata)
    violations: tuple[FieldViolation, ...] = getattr(error, "violations", ())
    if violations:
        yield BadRequest(
            field_violations=[
                BadRequest.FieldViolation(field=v.field, description=v.description)
                for v in violations
            ]
        )
    if isinstance(error, RateLimitedError):
        reached = QuotaFailure.Violation(subject=error.subject, description=error.limit)
        yield QuotaFailure(violations=[reached])
    if kind.code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED):
        yield RetryInfo(retry_delay=_duration(getattr(error, "retry_after", DEFAULT_RETRY_SECONDS)))


def _duration(seconds: float) -> Duration:
    duration = Duration()
    duration.FromNanoseconds(round(seconds * 1e9))
    return duration


def _packed(detail: Message) -> AnyMessage:
    packed = AnyMessage()
    packed.Pack(detail)
    return packed
