"""Errors of the gateway, whatever API it serves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import grpc

# As google.rpc.Code documents.
HTTP_STATUSES: Mapping[grpc.StatusCode, int] = {
    grpc.StatusCode.CANCELLED: 499,
    grpc.StatusCode.UNKNOWN: 500,
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.ALREADY_EXISTS: 409,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.FAILED_PRECONDITION: 400,
    grpc.StatusCode.ABORTED: 409,
    grpc.StatusCode.OUT_OF_RANGE: 400,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.INTERNAL: 500,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DATA_LOSS: 500,
    grpc.StatusCode.UNAUTHENTICATED: 401,
}


@dataclass(eq=False)
class ApiError(Exception):
    """An answer other than the one asked for. A dialect makes its body."""

    status: int
    code: grpc.StatusCode
    message: str
    param: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    reason: str | None = None
    """What the service's ErrorInfo says of it."""


def bad_request(message: str, *, param: str | None = None, status: int = 400) -> ApiError:
    return ApiError(status, grpc.StatusCode.INVALID_ARGUMENT, message, param)


def not_found(path: str) -> ApiError:
    return ApiError(404, grpc.StatusCode.NOT_FOUND, f"There is nothing at {path}")


def method_not_allowed(allowed: list[str]) -> ApiError:
    error = bad_request(f"The path takes {' or '.join(allowed)} only", status=405)
    with_head = ["GET, HEAD" if method == "GET" else method for method in allowed]
    error.headers["allow"] = ", ".join(with_head)
    return error


def unavailable(message: str) -> ApiError:
    return ApiError(503, grpc.StatusCode.UNAVAILABLE, message, headers={"retry-after": "1"})


def closing(error: ApiError) -> ApiError:
    """The error as the last answer of its connection."""
    error.headers["connection"] = "close"
    return error


def internal() -> ApiError:
    """An error of the gateway's own. The log has it, by request id."""
    return ApiError(500, grpc.StatusCode.INTERNAL, "The server had an error with the request")
