"""Traces: spans that join what a caller, the gateway and the service do for one request.

Without OpenTelemetry a caller's trace is passed on as it came.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from rapport.common.settings import Settings

TRACE_HEADERS = ("traceparent", "tracestate")
ENDPOINT_VARIABLES = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_TRACEPARENT = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-.*)?"
)

Carrier = Mapping[str, str]
"""Headers or metadata, `traceparent` and `tracestate` among them where there is a trace."""
Attributes = Mapping[str, str | int | float | bool | Sequence[str]]


class TracesError(Exception):
    """Traces cannot be sent as the settings have it; the text says why."""


class Span(Protocol):
    """Work on one request. Times are those of the monotonic clock."""

    @property
    def trace_id(self) -> str:
        """32 hexadecimal digits; empty where there is no trace."""

    @property
    def carrier(self) -> Carrier:
        """What makes spans of who gets it children of this one."""

    def part(self, name: str, began: float, ended: float) -> None:
        """Adds a child that has ended."""

    def end(self, name: str, attributes: Attributes, error: str = "") -> None:
        """Ends it now, under its final name; `error` is the kind of what went wrong."""


class Tracer(Protocol):
    def begin(self, name: str, caller: Carrier, began: float) -> Span:
        """A span of the caller's trace if it has one, else of a new one."""


@dataclass(frozen=True, slots=True)
class PassedOn:
    """The caller's trace, to which nothing is added."""

    trace_id: str
    carrier: Carrier

    def part(self, name: str, began: float, ended: float) -> None:
        pass

    def end(self, name: str, attributes: Attributes, error: str = "") -> None:
        pass


class Untraced:
    def begin(self, name: str, caller: Carrier, began: float) -> Span:
        del name, began
        carrier = {header: caller[header] for header in TRACE_HEADERS if header in caller}
        parent = _TRACEPARENT.fullmatch(carrier.get("traceparent", ""))
        return PassedOn(parent[1] if parent else "", carrier)


@contextmanager
def tracing(process: str, settings: Settings) -> Iterator[Tracer]:
    """The tracer that the settings or the OTEL_* variables ask for, closed in the end.

    Raises:
        TracesError: OpenTelemetry is asked for and is not there, or cannot be used.
    """
    if not (settings.otel_endpoint or any(map(os.environ.get, ENDPOINT_VARIABLES))):
        yield Untraced()
        return
    try:
        from rapport.common.telemetry.otel import OtelTracer  # noqa: PLC0415 - only with the extra
    except ModuleNotFoundError as error:
        raise TracesError("traces need OpenTelemetry: pip install ./protos '.[otel]'") from error
    endpoint = None if settings.otel_endpoint is None else str(settings.otel_endpoint)
    tracer = OtelTracer(process, endpoint, settings.otel_sample_ratio)
    try:
        yield tracer
    finally:
        tracer.close()
