"""Converts a failed call to the error that a REST caller gets."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import suppress
from typing import TypeVar, cast

import grpc
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from rapport.gateway.dialects.dialect import Dialect
from rapport.gateway.errors import HTTP_STATUSES, ApiError

# The statuses that gRPC itself sets if a call did not reach the service.
UNREACHABLE = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
TOO_LARGE = 413
# What gRPC itself says of a message over a limit. Other causes of RESOURCE_EXHAUSTED have other
# texts.
ANSWER_TOO_LARGE_TEXTS = (
    "CLIENT: Received message larger than max",
    "Sent message larger than max",
)
REQUEST_TOO_LARGE_TEXT = "eceived message larger than max"  # in Go it begins with a small r

_Detail = TypeVar("_Detail", bound=Message)


def error_of(
    failure: grpc.aio.AioRpcError, dialect: Dialect, *, own_deadline: bool = False
) -> ApiError:
    """The error for a call that failed.

    With `own_deadline` the caller has set the deadline, and trying again does not help.
    """
    details = _Details(failure)
    status, code = _classify(failure, details, dialect)
    reason = details.info.reason or None
    error = ApiError(status, code, _message(failure, details), details.param, reason=reason)
    error.headers = response_headers(
        dialect, failure.initial_metadata(), failure.trailing_metadata()
    )
    if status == 401:  # noqa: PLR2004
        error.headers["www-authenticate"] = "Bearer"
    is_hopeless = status == 501 or _is_answer_too_large(failure)  # noqa: PLR2004
    if is_hopeless or (status == 504 and own_deadline):  # noqa: PLR2004
        error.headers["x-should-retry"] = "false"
    if status in (429, 503):
        error.headers["retry-after"] = "1"
        error.headers |= details.retry
    return error


def response_headers(dialect: Dialect, *metadata: grpc.aio.Metadata | None) -> dict[str, str]:
    """The entries of a response's metadata that become headers of the HTTP response."""
    entries = (entry for one in metadata if one for entry in cast("Iterator[tuple[str, str]]", one))
    return {name: value for name, value in entries if name.startswith(dialect.returned_prefixes)}


def _classify(
    failure: grpc.aio.AioRpcError, details: _Details, dialect: Dialect
) -> tuple[int, grpc.StatusCode]:
    text, code = failure.details() or "", failure.code()
    for exception in dialect.status_exceptions:
        if code is exception.code and details.info.reason == exception.reason:
            return exception.http_status, code
    if code is grpc.StatusCode.CANCELLED and not details.info.reason:
        # No caller cancelled: gRPC cancels calls that wait too long for a busy server.
        code = grpc.StatusCode.UNAVAILABLE
    elif _is_answer_too_large(failure):
        code = grpc.StatusCode.INTERNAL
    elif code is grpc.StatusCode.RESOURCE_EXHAUSTED and REQUEST_TOO_LARGE_TEXT in text:
        return TOO_LARGE, grpc.StatusCode.INVALID_ARGUMENT
    return HTTP_STATUSES[code], code


def _is_answer_too_large(failure: grpc.aio.AioRpcError) -> bool:
    """Whether the answer was over a limit, the gateway's own or the service's."""
    text, code = failure.details() or "", failure.code()
    is_known = any(known in text for known in ANSWER_TOO_LARGE_TEXTS)
    return code is grpc.StatusCode.RESOURCE_EXHAUSTED and is_known


def _message(failure: grpc.aio.AioRpcError, details: _Details) -> str:
    # Without ErrorInfo the text is gRPC's own, and may contain addresses.
    if failure.code() in UNREACHABLE and not details.info.reason:
        return "The service is not available at the moment"
    if _is_answer_too_large(failure):
        return "The answer is larger than the server can send"
    return failure.details() or failure.code().name.replace("_", " ").capitalize()


class _Details:
    """The google.rpc details of a failed call."""

    def __init__(self, error: grpc.aio.AioRpcError) -> None:
        self._status = _rich_status(error)
        self.info = next(self._of(error_details_pb2.ErrorInfo), error_details_pb2.ErrorInfo())

    @property
    def param(self) -> str | None:
        for request in self._of(error_details_pb2.BadRequest):
            if request.field_violations:
                return str(request.field_violations[0].field) or None
        return cast("str | None", self.info.metadata.get("param"))

    @property
    def retry(self) -> dict[str, str]:
        for retry in self._of(error_details_pb2.RetryInfo):
            delay = retry.retry_delay.ToMilliseconds()
            return {"retry-after": str(math.ceil(delay / 1000)), "retry-after-ms": str(delay)}
        return {}

    def _of(self, kind: type[_Detail]) -> Iterator[_Detail]:
        for packed in self._status.details:
            detail = kind()
            with suppress(DecodeError):
                if packed.Unpack(detail):
                    yield detail


def _rich_status(error: grpc.aio.AioRpcError) -> status_pb2.Status:
    try:
        status = rpc_status.from_call(cast("grpc.Call", error))
    except (ValueError, DecodeError):  # there is the plain status alone
        status = None
    return cast("status_pb2.Status", status) or status_pb2.Status()
