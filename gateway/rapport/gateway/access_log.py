"""What the log and a trace tell of an HTTP request."""

from __future__ import annotations

import logging
from typing import Any

from rapport.common.telemetry.formatters import fields
from rapport.common.telemetry.traces import Attributes
from rapport.gateway.http1.exchange import Exchange

access_logger = logging.getLogger("gateway.access")

MAX_PATH_CHARACTERS = 500
FAULT = 500
"""The HTTP status from which on a failure is not the caller's."""


def log_access(exchange: Exchange, trace_id: str) -> None:
    """Writes one line."""
    values = fields_of(exchange, trace_id)
    took = values["duration_seconds"] * 1000
    access_logger.info(
        "%s %s %s %.1fms %s",
        exchange.method,
        values["path"],
        exchange.status,
        took,
        exchange.request_id,
        extra=fields(**values),
    )


def fields_of(exchange: Exchange, trace_id: str) -> dict[str, Any]:
    """What a JSON line tells of a request; None where there is nothing to tell."""
    return {
        "request_id": exchange.request_id,
        "trace_id": trace_id or None,
        "method": exchange.method,
        "path": exchange.path[:MAX_PATH_CHARACTERS],
        "route": exchange.route,
        "status": exchange.status,
        "streamed": exchange.streamed,
        "duration_seconds": round(exchange.duration, 6),
        "ttfb_seconds": None if exchange.ttfb is None else round(exchange.ttfb, 6),
        "sent_bytes": exchange.sent_bytes,
    }


def span_name(exchange: Exchange) -> str:
    return f"{exchange.method} {exchange.route}" if exchange.route else exchange.method


def span_attributes(exchange: Exchange) -> Attributes:
    values: dict[str, Any] = {
        "http.request.method": exchange.method,
        "url.path": exchange.path[:MAX_PATH_CHARACTERS],
        "url.scheme": exchange.scheme,
        "http.route": exchange.route,
        "http.response.status_code": exchange.status,
        "rapport.request_id": exchange.request_id,
    }
    return {name: value for name, value in values.items() if value is not None}


def fault(exchange: Exchange) -> str:
    """The status that says that the server failed, or nothing."""
    status = exchange.status or FAULT
    return str(status) if status >= FAULT else ""
