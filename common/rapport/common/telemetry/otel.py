"""Spans of OpenTelemetry, sent over OTLP. Imported only where traces are asked for."""

from __future__ import annotations

import os
import threading
import time
from importlib.metadata import version

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from rapport.common.telemetry.traces import Attributes, Carrier, Span, TracesError

PATH = "/v1/traces"
FLUSH_TIMEOUT_S = 2.0
"""Seconds that the last spans get to leave when the process ends."""
PROTOCOL_VARIABLES = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
PROTOCOL = "http/protobuf"

_w3c = TraceContextTextMapPropagator()


class OtelSpan:
    def __init__(self, tracer: trace.Tracer, span: trace.Span) -> None:
        self._tracer = tracer
        self._span = span

    @property
    def trace_id(self) -> str:
        return trace.format_trace_id(self._span.get_span_context().trace_id)

    @property
    def carrier(self) -> Carrier:
        carrier: dict[str, str] = {}
        _w3c.inject(carrier, trace.set_span_in_context(self._span))
        return carrier

    def part(self, name: str, began: float, ended: float) -> None:
        within = trace.set_span_in_context(self._span)
        child = self._tracer.start_span(name, within, start_time=_wall_clock(began))
        child.end(_wall_clock(ended))

    def end(self, name: str, attributes: Attributes, error: str = "") -> None:
        self._span.update_name(name)
        self._span.set_attributes(dict(attributes))
        if error:
            self._span.set_attribute("error.type", error)
            self._span.set_status(trace.StatusCode.ERROR)
        self._span.end()


class OtelTracer:
    """Sends spans in batches, from a thread of the SDK's.

    Args:
        process: the name of the service that the spans are of.
        endpoint: URL of an OTLP receiver over HTTP; without, the OTEL_* variables name it.
        ratio: share of new traces that are kept; without, the OTEL_* variables say it.

    Raises:
        TracesError: the variables ask for a protocol other than http/protobuf.
    """

    def __init__(self, process: str, endpoint: str | None, ratio: float | None) -> None:
        _check_protocol()
        self._provider = TracerProvider(
            resource=_resource(process),
            sampler=None if ratio is None else ParentBased(TraceIdRatioBased(ratio)),
            shutdown_on_exit=False,  # it would wait half a minute for a dead receiver
        )
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(_url(endpoint))))
        self._tracer = self._provider.get_tracer("rapport", version("rapport-server"))

    def begin(self, name: str, caller: Carrier, began: float) -> Span:
        span = self._tracer.start_span(
            name,
            _w3c.extract(caller),
            kind=trace.SpanKind.SERVER,
            start_time=_wall_clock(began),
        )
        return OtelSpan(self._tracer, span)

    def close(self) -> None:
        """Sends what is left, for at most `FLUSH_TIMEOUT_S` seconds."""
        closing = threading.Thread(target=self._provider.shutdown, daemon=True)
        closing.start()
        closing.join(FLUSH_TIMEOUT_S)


def _check_protocol() -> None:
    protocol = next(filter(None, map(os.environ.get, PROTOCOL_VARIABLES)), PROTOCOL)
    if protocol != PROTOCOL:
        raise TracesError(f"traces leave over {PROTOCOL} only, not over {protocol}")


def _resource(process: str) -> Resource:
    defaults = {"service.name": process, "service.version": version("rapport-server")}
    # The OTEL_* variables take precedence.
    return Resource.create(defaults).merge(OTELResourceDetector().detect())


def _url(endpoint: str | None) -> str | None:
    """The URL of the receiver's traces, of whom the settings name the base."""
    if endpoint is None or endpoint.endswith(PATH):
        return endpoint
    return endpoint.rstrip("/") + PATH


def _wall_clock(monotonic: float) -> int:
    """Nanoseconds since 1970."""
    return time.time_ns() - int((time.monotonic() - monotonic) * 1e9)
