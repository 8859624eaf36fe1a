"""An OTLP receiver over HTTP, on a free port."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

WAIT = 20.0


@dataclass(frozen=True)
class Received:
    """A span as it came, with ids in hexadecimal."""

    process: str
    name: str
    trace_id: str
    span_id: str
    parent_id: str
    kind: int
    began: int
    ended: int
    attributes: dict[str, Any]
    failed: bool


class Receiver:
    """Keeps what it is sent."""

    def __init__(self) -> None:
        self.spans: list[Received] = []
        self.url = ""
        self._came = threading.Condition()

    def take(self, body: bytes) -> None:
        request = ExportTraceServiceRequest.FromString(body)
        with self._came:
            for resource in request.resource_spans:
                process = values(resource.resource.attributes)["service.name"]
                for scope in resource.scope_spans:
                    self.spans += [received(process, span) for span in scope.spans]
            self._came.notify_all()

    def named(self, *names: str) -> list[Received]:
        """The spans of these names, each once, when they have come."""
        with self._came:
            assert self._came.wait_for(lambda: {*names} <= {s.name for s in self.spans}, WAIT)
            return [next(span for span in self.spans if span.name == name) for name in names]


def received(process: str, span: Any) -> Received:
    return Received(
        process=process,
        name=span.name,
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        kind=span.kind,
        began=span.start_time_unix_nano,
        ended=span.end_time_unix_nano,
        attributes=values(span.attributes),
        failed=span.status.code == span.status.STATUS_CODE_ERROR,
    )


def values(attributes: Any) -> dict[str, Any]:
    return {pair.key: value(pair.value) for pair in attributes}


def value(of: Any) -> Any:
    kind = of.WhichOneof("value")
    if kind == "array_value":
        return [value(item) for item in of.array_value.values]
    return getattr(of, kind)


@contextmanager
def receiving() -> Iterator[Receiver]:
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.path == "/v1/traces"
            receiver.take(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        receiver.url = f"http://127.0.0.1:{server.server_port}"
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        try:
            yield receiver
        finally:
            server.shutdown()
            serving.join()
