"""Errors: every gRPC status and detail, as REST callers see it."""

from __future__ import annotations

from typing import Any

import grpc
import httpx
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo

from rapport.gateway.errors import HTTP_STATUSES
from tests.gateway.library import Library

BAD = "invalid_request_error"
BROKEN = "internal_server_error"
EXPECTED: dict[grpc.StatusCode, tuple[int, str, str]] = {
    grpc.StatusCode.CANCELLED: (499, "error", "CANCELLED"),
    grpc.StatusCode.UNKNOWN: (500, BROKEN, BROKEN),
    grpc.StatusCode.INVALID_ARGUMENT: (400, BAD, BAD),
    grpc.StatusCode.DEADLINE_EXCEEDED: (504, "error", "DEADLINE_EXCEEDED"),
    grpc.StatusCode.NOT_FOUND: (404, "error", "NOT_FOUND"),
    grpc.StatusCode.ALREADY_EXISTS: (409, "error", "ALREADY_EXISTS"),
    grpc.StatusCode.PERMISSION_DENIED: (403, "error", "FORBIDDEN"),
    grpc.StatusCode.RESOURCE_EXHAUSTED: (429, "error", "RESOURCE_EXHAUSTED"),
    grpc.StatusCode.FAILED_PRECONDITION: (400, BAD, BAD),
    grpc.StatusCode.ABORTED: (409, "error", "ABORTED"),
    grpc.StatusCode.OUT_OF_RANGE: (400, BAD, BAD),
    grpc.StatusCode.UNIMPLEMENTED: (501, "error", "UNIMPLEMENTED"),
    grpc.StatusCode.INTERNAL: (500, BROKEN, BROKEN),
    grpc.StatusCode.UNAVAILABLE: (503, "error", "UNAVAILABLE"),
    grpc.StatusCode.DATA_LOSS: (500, BROKEN, BROKEN),
    grpc.StatusCode.UNAUTHENTICATED: (401, "error", "UNAUTHORIZED"),
}


def test_every_status_is_mapped() -> None:
    """There is no gRPC status but OK without a REST error."""
    assert HTTP_STATUSES.keys() == EXPECTED.keys() == set(grpc.StatusCode) - {grpc.StatusCode.OK}


async def fail(client: httpx.AsyncClient, code: grpc.StatusCode, **body: Any) -> httpx.Response:
    asked = {"fail_after": 0, "code": code.value[0], "message": "why", **body}
    return await client.post("/v1/tell", json=asked)


async def test_each_status(client: httpx.AsyncClient, library: Library) -> None:
    """Each gRPC status gives its HTTP status, type and code, in the one shape."""
    library.details = [ErrorInfo(reason="SOME_REASON")]
    for code, (status, kind, name) in EXPECTED.items():
        reply = await fail(client, code)
        error = {"object": "error", "type": kind, "code": name, "message": "why", "param": None}
        assert (reply.status_code, reply.json()) == (status, {"error": error})
        assert reply.headers.get("www-authenticate") == ("Bearer" if status == 401 else None)
        assert ("retry-after" in reply.headers) == (status in (429, 503))
        assert reply.headers.get("x-should-retry") == ("false" if status == 501 else None)


async def test_cancelled_by_nobody(client: httpx.AsyncClient) -> None:
    """A call that gRPC itself cancelled is as one that did not get through."""
    reply = await fail(client, grpc.StatusCode.CANCELLED)
    assert (reply.status_code, reply.headers["retry-after"]) == (503, "1")
    assert reply.json()["error"]["message"] == "The service is not available at the moment"


async def test_model_broken(client: httpx.AsyncClient, library: Library) -> None:
    """A failed precondition with the reason MODEL_BROKEN is a 412."""
    library.details = [ErrorInfo(reason="MODEL_BROKEN")]
    reply = await fail(client, grpc.StatusCode.FAILED_PRECONDITION)
    assert reply.status_code == 412
    error = reply.json()["error"]
    assert (error["type"], error["code"]) == ("error", "FAILED_PRECONDITION")


async def test_param(client: httpx.AsyncClient, library: Library) -> None:
    """param is the first field that is at fault, or what ErrorInfo names."""
    violation = BadRequest.FieldViolation(field="messages[0].role")
    library.details = [
        ErrorInfo(reason="BAD", metadata={"param": "other"}),
        BadRequest(field_violations=[violation]),
    ]
    reply = await fail(client, grpc.StatusCode.INVALID_ARGUMENT)
    assert reply.json()["error"]["param"] == "messages[0].role"
    library.details = [ErrorInfo(reason="UNKNOWN_MODEL", metadata={"param": "model"})]
    reply = await fail(client, grpc.StatusCode.NOT_FOUND)
    assert reply.json()["error"]["param"] == "model"


async def test_retry_info(client: httpx.AsyncClient, library: Library) -> None:
    """RetryInfo says when to try again, in whole seconds and in milliseconds."""
    library.details = [RetryInfo(retry_delay=Duration(seconds=1, nanos=500_000_000))]
    reply = await fail(client, grpc.StatusCode.RESOURCE_EXHAUSTED)
    assert (reply.headers["retry-after"], reply.headers["retry-after-ms"]) == ("2", "1500")


async def test_metadata_of_a_failure(client: httpx.AsyncClient, library: Library) -> None:
    """Rate limit entries of a failed call's trailers are headers, the rest is not."""
    library.trailing = (("x-ratelimit-over-limit", "yes"), ("other", "x"))
    reply = await fail(client, grpc.StatusCode.RESOURCE_EXHAUSTED)
    assert reply.headers["x-ratelimit-over-limit"] == "yes"
    assert "other" not in reply.headers


async def test_contradicting_details(client: httpx.AsyncClient, library: Library) -> None:
    """Details that are not those of the status are passed over."""
    library.trailing = (("grpc-status-details-bin", b"\xff"),)  # type: ignore[assignment]
    reply = await fail(client, grpc.StatusCode.NOT_FOUND)
    assert (reply.status_code, reply.json()["error"]["message"]) == (404, "why")


async def test_no_message(client: httpx.AsyncClient) -> None:
    """A failure without a text is named by its status."""
    reply = await fail(client, grpc.StatusCode.NOT_FOUND, message="")
    assert reply.json()["error"]["message"] == "Not found"
