"""Responses as h11's events and as bytes."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from email.utils import formatdate
from http import HTTPStatus

import h11
import orjson

from rapport.gateway.dialects.dialect import Dialect
from rapport.gateway.errors import ApiError

Headers = Mapping[str, str]
Expose = Callable[[Headers], Headers]
"""What a response has beside its headers, so that the pages of other origins may read it."""

# Statuses that HTTP does not know, such as 499, have none.
_REASONS = {status.value: status.phrase.encode() for status in HTTPStatus}

# An interim response may come before any other (RFC 9110, 15.2), and all clients know this one.
INTERIM = h11.InformationalResponse(status_code=100, headers=[], reason=b"Continue")


def response_head(status: int, headers: Headers, request_id: str) -> h11.Response:
    """The head of a response, with its date and its request's id."""
    lines = {"date": formatdate(usegmt=True), **headers, "x-request-id": request_id}
    return h11.Response(
        status_code=status,
        reason=_REASONS.get(status, b""),
        headers=[(name.encode(), value.encode("latin-1")) for name, value in lines.items()],
    )


def rendered(error: ApiError, dialect: Dialect) -> tuple[bytes, Headers]:
    """The body and the headers of an error."""
    headers = {"content-type": "application/json", **error.headers}
    return orjson.dumps(dialect.error_body(error)), headers


def refusal(error: ApiError, dialect: Dialect, expose: Expose) -> bytes:
    """The whole answer to what is no request."""
    body, headers = rendered(error, dialect)
    headers = {**headers, "content-length": str(len(body))}
    headers |= expose(headers)
    head = response_head(error.status, headers, str(uuid.uuid4()))
    return encoded(h11.Connection(h11.SERVER), head, h11.Data(data=body), h11.EndOfMessage())


def encoded(http: h11.Connection, *events: h11.Event) -> bytes:
    """The events as bytes, and as part of the state of `http`."""
    return b"".join(_encoded(http, event) for event in events)


def _encoded(http: h11.Connection, event: h11.Event) -> bytes:
    data = http.send(event) or b""
    if isinstance(event, h11.Response):
        # What h11 sets itself it writes in capitals, unlike all other names here.
        for name in (b"Connection", b"Transfer-Encoding"):
            data = data.replace(b"\r\n%b: " % name, b"\r\n%b: " % name.lower())
    return data
