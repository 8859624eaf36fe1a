from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

from rapport.common.settings import Settings, load
from rapport.common.telemetry import otel
from rapport.common.telemetry.traces import Span, Tracer, tracing
from tests.common.telemetry.receiver import Receiver, receiving

SERVER = 2
CALLER = {
    "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    "tracestate": "vendor=value",
}
UNSAMPLED = {"traceparent": CALLER["traceparent"][:-1] + "0"}


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


def traced(url: str, *flags: str) -> AbstractContextManager[Tracer]:
    return tracing("test", load(Settings, ["--otel-endpoint", url, *flags]))


def begun(tracer: Tracer, caller: dict[str, str]) -> Span:
    return tracer.begin("begun", caller, time.monotonic() - 1)


def test_span_is_a_child_of_the_callers(receiver: Receiver) -> None:
    """A span has the caller's trace, its parts are within it, and its receiver is its child."""
    with traced(receiver.url) as tracer:
        span = begun(tracer, CALLER)
        now = time.monotonic()
        span.part("part", now - 0.5, now)
        carrier = span.carrier
        span.end("ended", {"a": 1, "b": ["c"]})
    whole, part = receiver.named("ended", "part")
    assert (whole.process, whole.kind) == ("test", SERVER)
    assert whole.trace_id == part.trace_id == span.trace_id == CALLER["traceparent"][3:35]
    assert (whole.parent_id, part.parent_id) == (CALLER["traceparent"][36:52], whole.span_id)
    assert whole.attributes == {"a": 1, "b": ["c"]}
    assert whole.began < part.began < part.ended <= whole.ended
    assert part.ended - part.began == pytest.approx(0.5e9, rel=0.01)
    assert carrier == {
        "traceparent": f"00-{whole.trace_id}-{whole.span_id}-01",
        "tracestate": "vendor=value",
    }
    assert not whole.failed


def test_failure_is_the_spans_status(receiver: Receiver) -> None:
    """What went wrong is an attribute, and the span has failed."""
    with traced(receiver.url) as tracer:
        begun(tracer, CALLER).end("ended", {}, "INTERNAL")
    [span] = receiver.named("ended")
    assert (span.failed, span.attributes) == (True, {"error.type": "INTERNAL"})


@pytest.mark.parametrize("given", ["", "nonsense", CALLER["traceparent"].upper()])
def test_what_is_no_trace_begins_one(receiver: Receiver, given: str) -> None:
    """An invalid header is ignored: the span is the first of a new trace."""
    with traced(receiver.url) as tracer:
        begun(tracer, {"traceparent": given}).end("ended", {})
    [span] = receiver.named("ended")
    assert span.parent_id == ""
    assert span.trace_id != CALLER["traceparent"][3:35]


def test_the_callers_choice_stands(receiver: Receiver) -> None:
    """A caller's trace is kept or not as the caller says; the ratio is of new ones."""
    with traced(f"{receiver.url}/v1/traces", "--otel-sample-ratio", "0") as tracer:
        begun(tracer, {}).end("new", {})
        begun(tracer, UNSAMPLED).end("left out", {})
        begun(tracer, CALLER).end("kept", {})
    receiver.named("kept")
    assert [span.name for span in receiver.spans] == ["kept"]


def test_variables_name_receiver_and_service(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenTelemetry's own variables do without a setting, and name the process."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
    monkeypatch.setenv("OTEL_SERVICE_NAME", "mine")
    with tracing("test", load(Settings, [])) as tracer:
        begun(tracer, {}).end("ended", {})
    assert receiver.named("ended")[0].process == "mine"


@contextmanager
def deaf() -> Iterator[str]:
    """A receiver that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


def test_a_deaf_receiver_does_not_keep_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """The end is put off for no longer than is set."""
    monkeypatch.setattr(otel, "FLUSH_TIMEOUT_S", 0.2)
    before = {*threading.enumerate()}
    with deaf() as url:
        with traced(url) as tracer:
            begun(tracer, {}).end("ended", {})
            ending = time.monotonic()
        assert time.monotonic() - ending < 5
    for thread in {*threading.enumerate()} - before:
        thread.join()  # it draws its pauses from `random`, which hypothesis watches over
