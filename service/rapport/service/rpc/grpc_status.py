"""The gRPC status, with google.rpc details, of each error."""

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
    ConstraintFailedError,
    EngineUnavailableError,
    InvalidLogitsError,
    OutOfMemoryError,
    OverloadedError,
    RequestCancelledError,
    StepFailedError,
    UnserviceableRequestError,
)
from rapport.service.errors import (
    MAX_MESSAGE_BYTES,
    AdminKeyRequiredError,
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
DEFAULT_RETRY_S = 1.0


@dataclass(frozen=True, slots=True)
class ErrorKind:
    """How an error is reported, beside its own message."""

    code: grpc.StatusCode
    reason: str
    metadata: dict[str, str] = field(default_factory=dict)
    public_message: str | None = None
    """Replaces the error's own message, which may have internal details."""


KINDS: dict[type[Exception], ErrorKind] = {
    InvalidRequestError: ErrorKind(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST"),
    UnreadableRequestError: ErrorKind(grpc.StatusCode.INVALID_ARGUMENT, "UNREADABLE"),
    PromptTooLongError: ErrorKind(grpc.StatusCode.INVALID_ARGUMENT, "PROMPT_TOO_LONG"),
    ModelNotFoundError: ErrorKind(grpc.StatusCode.NOT_FOUND, "MODEL_NOT_FOUND", {"param": "model"}),
    ModelForbiddenError: ErrorKind(
        grpc.StatusCode.PERMISSION_DENIED, "MODEL_FORBIDDEN", {"param": "model"}
    ),
    AdminKeyRequiredError: ErrorKind(grpc.StatusCode.PERMISSION_DENIED, "ADMIN_KEY_REQUIRED"),
    RateLimitedError: ErrorKind(grpc.StatusCode.RESOURCE_EXHAUSTED, "RATE_LIMITED"),
    UnauthenticatedError: ErrorKind(grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED"),
    RequestMissingError: ErrorKind(grpc.StatusCode.CANCELLED, "REQUEST_MISSING"),
    NotReadyError: ErrorKind(grpc.StatusCode.UNAVAILABLE, "UNAVAILABLE"),
    SlowReaderError: ErrorKind(grpc.StatusCode.ABORTED, "READER_STUCK"),
    OverloadedError: ErrorKind(grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED"),
    OutOfMemoryError: ErrorKind(grpc.StatusCode.RESOURCE_EXHAUSTED, "OUT_OF_MEMORY"),
    EngineUnavailableError: ErrorKind(grpc.StatusCode.UNAVAILABLE, "UNAVAILABLE"),
    UnserviceableRequestError: ErrorKind(grpc.StatusCode.INVALID_ARGUMENT, "UNSERVICEABLE"),
    ConstraintFailedError: ErrorKind(grpc.StatusCode.INVALID_ARGUMENT, "GRAMMAR_FAILED"),
    RequestCancelledError: ErrorKind(grpc.StatusCode.CANCELLED, "CANCELLED"),
    StepFailedError: ErrorKind(
        grpc.StatusCode.INTERNAL, "GENERATION_FAILED", public_message="The model failed to generate"
    ),
    InvalidLogitsError: ErrorKind(grpc.StatusCode.INTERNAL, "INVALID_LOGITS"),
    Exception: ErrorKind(grpc.StatusCode.INTERNAL, "INTERNAL", public_message="Internal error"),
}


def kind_of(error: Exception) -> ErrorKind:
    """The entry of the most specific class of the error."""
    return next(KINDS[ancestor] for ancestor in type(error).__mro__ if ancestor in KINDS)


def status_of(error: Exception) -> Status:
    """The status that an RPC ends with for an error."""
    kind = kind_of(error)
    code: int = kind.code.value[0]
    details = [_packed(detail) for detail in _details(error, kind)]
    message = truncate(kind.public_message or str(error), MAX_MESSAGE_BYTES)
    return Status(code=code, message=message, details=details)


def _details(error: Exception, kind: ErrorKind) -> Iterator[Message]:
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
        violation = QuotaFailure.Violation(subject=error.subject, description=error.limit)
        yield QuotaFailure(violations=[violation])
    if kind.code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED):
        yield RetryInfo(retry_delay=_duration(getattr(error, "retry_after", DEFAULT_RETRY_S)))


def _duration(seconds: float) -> Duration:
    duration = Duration()
    duration.FromNanoseconds(round(seconds * 1e9))
    return duration


def _packed(detail: Message) -> AnyMessage:
    packed = AnyMessage()
    packed.Pack(detail)
    return packed
