"""Errors as REST callers see them, and the way there from gRPC statuses."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

import grpc
import orjson
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

BAD_REQUEST = "invalid_request_error"
SERVER_ERROR = "internal_server_error"
HEADER_PREFIXES = ("x-ratelimit-", "fireworks-")

# HTTP status, type and code. FAILED_PRECONDITION and RESOURCE_EXHAUSTED have special cases.
STATUSES: Mapping[grpc.StatusCode, tuple[int, str, str]] = {
    grpc.StatusCode.CANCELLED: (499, "error", "CANCELLED"),
    grpc.StatusCode.UNKNOWN: (500, SERVER_ERROR, SERVER_ERROR),
    grpc.StatusCode.INVALID_ARGUMENT: (400, BAD_REQUEST, BAD_REQUEST),
    grpc.StatusCode.DEADLINE_EXCEEDED: (504, "error", "DEADLINE_EXCEEDED"),
    grpc.StatusCode.NOT_FOUND: (404, "error", "NOT_FOUND"),
    grpc.StatusCode.ALREADY_EXISTS: (409, "error", "ALREADY_EXISTS"),
    grpc.StatusCode.PERMISSION_DENIED: (403, "error", "FORBIDDEN"),
    grpc.StatusCode.RESOURCE_EXHAUSTED: (429, "error", "RESOURCE_EXHAUSTED"),
    grpc.StatusCode.FAILED_PRECONDITION: (400, BAD_REQUEST, BAD_REQUEST),
    grpc.StatusCode.ABORTED: (409, "error", "ABORTED"),
    grpc.StatusCode.OUT_OF_RANGE: (400, BAD_REQUEST, BAD_REQUEST),
    grpc.StatusCode.UNIMPLEMENTED: (501, "error", "UNIMPLEMENTED"),
    grpc.StatusCode.INTERNAL: (500, SERVER_ERROR, SERVER_ERROR),
    grpc.StatusCode.UNAVAILABLE: (503, "error", "UNAVAILABLE"),
    grpc.StatusCode.DATA_LOSS: (500, SERVER_ERROR, SERVER_ERROR),
    grpc.StatusCode.UNAUTHENTICATED: (401, "error", "UNAUTHORIZED"),
}
MODEL_BROKEN = (412, "error", "FAILED_PRECONDITION")
LOST = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
TOO_LARGE = (413, BAD_REQUEST, BAD_REQUEST)
# What gRPC itself says of a message over a limit; a queue that is full says other things.
ANSWER_TOO_LARGE_TEXTS = (
    "CLIENT: Received message larger than max",
    "Sent message larger than max",
)
REQUEST_TOO_LARGE_TEXT = "eceived message larger than max"  # Go's has a small r.

_Detail = TypeVar("_Detail", bound=Message)


@dataclass(eq=False)
class ApiError(Exception):
    """An answer other than the one asked for."""

    status: int
    type: str
    code: str
    message: str
    param: str | None = None
    headers: dict[str, str] = field(default_factory=dict)

    def body(self) -> bytes:
        shape = {"object": "error", "type": self.type, "code": self.code}
        return orjson.dumps({"error": {**shape, "message": self.message, "param": self.param}})


def bad_request(message: str, *, param: str | None = None, status: int = 400) -> ApiError:
    return ApiError(status, BAD_REQUEST, BAD_REQUEST, message, param)


def not_found(path: str) -> ApiError:
    return ApiError(404, "error", "NOT_FOUND", f"There is nothing at {path}")


def method_not_allowed(allowed: list[str]) -> ApiError:
    error = bad_request(f"The path takes {' or '.join(allowed)} only", status=405)
    error.headers["allow"] = ", ".join(allowed)
    return error


def unavailable(message: str) -> ApiError:
    return ApiError(503, "error", "UNAVAILABLE", message, headers={"retry-after": "1"})


def internal() -> ApiError:
    """An error of the gateway's own; what it was is in the log, by request id."""
    return ApiError(500, SERVER_ERROR, SERVER_ERROR, "The server had an error with the request")


def from_rpc(error: grpc.aio.AioRpcError, *, own_deadline: bool = False) -> ApiError:
    """The error for a call that failed.

    With `own_deadline` it was the caller who set the deadline, and trying again won't help.
    """
    details = _Details(error)
    status, kind, code = _classify(error, details)
    api_error = ApiError(status, kind, code, _message(error, details), details.param)
    api_error.headers = {**response_headers(error.initial_metadata(), error.trailing_metadata())}
    if status == 401:  # noqa: PLR2004
        api_error.headers["www-authenticate"] = "Bearer"
    is_hopeless = status == 501 or _is_answer_too_large(error)  # noqa: PLR2004
    if is_hopeless or (status == 504 and own_deadline):  # noqa: PLR2004
        api_error.headers["x-should-retry"] = "false"
    if status in (429, 503):
        api_error.headers["retry-after"] = "1"
        api_error.headers |= details.retry
    return api_error


def response_headers(*metadata: grpc.aio.Metadata | None) -> dict[str, str]:
    """The entries of a response's metadata that REST callers get as headers."""
    entries = (entry for one in metadata if one for entry in cast("Any", one))
    return {name: value for name, value in entries if name.startswith(HEADER_PREFIXES)}


def _classify(error: grpc.aio.AioRpcError, details: _Details) -> tuple[int, str, str]:
    text, code = error.details() or "", error.code()
    if code is grpc.StatusCode.FAILED_PRECONDITION and details.info.reason == "MODEL_BROKEN":
        return MODEL_BROKEN
    if code is grpc.StatusCode.CANCELLED and not details.info.reason:
        # Nobody wanted that: gRPC cancels calls that wait too long for a busy server.
        return STATUSES[grpc.StatusCode.UNAVAILABLE]
    if _is_answer_too_large(error):
        return STATUSES[grpc.StatusCode.INTERNAL]
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED and REQUEST_TOO_LARGE_TEXT in text:
        return TOO_LARGE
    return STATUSES[code]


def _is_answer_too_large(error: grpc.aio.AioRpcError) -> bool:
    """Whether the answer was over a limit, the gateway's own or the service's."""
    text, code = error.details() or "", error.code()
    said = any(known in text for known in ANSWER_TOO_LARGE_TEXTS)
    return code is grpc.StatusCode.RESOURCE_EXHAUSTED and said


def _message(error: grpc.aio.AioRpcError, details: _Details) -> str:
    # Without ErrorInfo it is gRPC that speaks, of addresses and sockets.
    if error.code() in LOST and not details.info.reason:
        return "The service is not available at the moment"
    if _is_answer_too_large(error):
        return "The answer is larger than the server can send"
    return error.details() or error.code().name.replace("_", " ").capitalize()


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
        status = rpc_status.from_call(cast("Any", error))
    except (ValueError, DecodeError):  # The plain status stands alone.
        status = None
    return cast("status_pb2.Status", status) or status_pb2.Status()
