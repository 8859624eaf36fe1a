"""What two real processes log and trace of requests with every outcome."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import httpx
import orjson
import pytest

from rapport.v1.chat_pb2_grpc import ChatServiceStub
from tests.common.telemetry.processes import Pair, pair
from tests.common.telemetry.receiver import Receiver, receiving
from tests.plain_http import NO_CERTIFICATES
from tests.service.requests import MODEL, chat

KEY = "sesame-7f3d"
SECRET = "Zanzibar-quokka"  # noqa: S105 - what nobody may read
USER = "ann-of-green-gables"
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
BODY = {
    "model": MODEL,
    "user": USER,
    "messages": [{"role": "user", "content": f"Tell of {SECRET}."}],
    "max_tokens": 20,
    "seed": 1,
    "ignore_eos": True,
}
# A tiny model at the pace of a real one.
PACE = {"inject_faults": "true", "faults": "decode:delay=0.005"}
ROUTE = "/v1/chat/completions"


@dataclass
class Observed:
    """What came of the requests, by their ids."""

    logs: dict[str, str] = field(default_factory=dict)
    statuses: dict[str, int | None] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)

    def line(self, process: str, request_id: str) -> dict[str, Any]:
        """The one line on a request in a process's log, of JSON."""
        lines = map(orjson.loads, self.logs[process].splitlines())
        [line] = [each for each in lines if of_request(each, request_id)]
        return line


def of_request(line: dict[str, Any], request_id: str) -> bool:
    return line["logger"].endswith(".access") and line["request_id"] == request_id


def post(both: Pair, observed: Observed, request_id: str, **options: Any) -> httpx.Response:
    headers = {
        "authorization": f"Bearer {KEY}",
        "traceparent": f"00-{TRACE}-{PARENT}-01",
        "x-request-id": request_id,
        "content-type": "application/json",
    } | options.pop("headers", {})
    response = httpx.post(
        f"{both.rest}{ROUTE}", headers=headers, timeout=60, **options, verify=NO_CERTIFICATES
    )
    observed.statuses[request_id] = response.status_code
    return response


def leave(both: Pair) -> None:
    """Asks for a long stream and goes once it has begun."""
    headers = {"authorization": f"Bearer {KEY}", "x-request-id": "left"}
    body = {**BODY, "stream": True, "max_tokens": 2000}
    with httpx.stream(
        "POST", f"{both.rest}{ROUTE}", json=body, headers=headers, verify=NO_CERTIFICATES
    ) as response:
        next(response.iter_bytes())


def call(both: Pair, observed: Observed) -> None:
    """Asks over gRPC, with a trace that is none."""
    key = ("authorization", f"Bearer {KEY}")
    metadata = (key, ("x-request-id", "grpc"), ("traceparent", "nonsense"))
    with grpc.insecure_channel(both.grpc) as channel:
        request = chat(f"Tell of {SECRET}.", max_tokens=20, ignore_eos=True)
        answer = ChatServiceStub(channel).CreateChatCompletion(request, metadata=metadata)
    observed.said.append(answer.choices[0].message.content)


def ask(both: Pair, observed: Observed) -> None:
    """One request for each outcome."""
    whole = post(both, observed, "whole", json=BODY)
    observed.said.append(whole.json()["choices"][0]["message"]["content"])
    post(both, observed, "stream", json={**BODY, "stream": True}, params={"q": SECRET})
    post(both, observed, "wrong-type", json={**BODY, "temperature": SECRET})
    post(both, observed, "unknown-field", json={**BODY, SECRET: 1})
    post(both, observed, "no-json", content=f'{{"{SECRET}')
    post(both, observed, "refused", json={**BODY, "stop": [SECRET] * 99})
    schema = {"type": "object", SECRET: True, "pattern": SECRET, "$ref": SECRET}
    shape = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
    post(both, observed, "schema", json={**BODY, "response_format": shape})
    forged = "x\n2026-11-24T12:00:00.123Z INFO forged\u2028\x85\x1b[2J"
    post(both, observed, "forged", json={**BODY, "model": forged})
    wrong = {"authorization": f"Bearer {SECRET}"}
    post(both, observed, "no-key", json=BODY, headers=wrong)
    post(both, observed, "service-fails", json={**BODY, "user": "break service"})
    post(both, observed, "gateway-fails", json={**BODY, "user": "break gateway"})
    post(
        both,
        observed,
        "deadline",
        json={**BODY, "max_tokens": 2000},
        headers={"grpc-timeout": "1S"},
    )
    leave(both)
    call(both, observed)


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


def run(folder: Path, model_folder: Path, **settings: str) -> Observed:
    observed = Observed()
    common = {"api_keys": KEY, "log_level": "debug", **PACE}
    with pair(folder, model_folder, common | settings) as both:
        ask(both, observed)
    observed.logs = {name: log.read_text() for name, log in both.logs.items()}
    return observed


@pytest.fixture(scope="module")
def json_told(
    receiver: Receiver, tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path
) -> Observed:
    folder = tmp_path_factory.mktemp("json")
    return run(folder, tiny_folder, log_format="json", otel_endpoint=receiver.url)


@pytest.fixture(scope="module")
def text_told(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path) -> Observed:
    return run(tmp_path_factory.mktemp("text"), tiny_folder)


@pytest.mark.parametrize("log_format", ["json_told", "text_told"])
def test_no_line_has_what_was_said(log_format: str, request: pytest.FixtureRequest) -> None:
    """At the debug level, with every outcome: no prompt, no answer, no user, no key."""
    observed: Observed = request.getfixturevalue(log_format)
    assert observed.statuses == {
        "whole": 200,
        "stream": 200,
        "wrong-type": 400,
        "unknown-field": 400,
        "no-json": 400,
        "refused": 400,
        "schema": 400,
        "forged": 404,
        "no-key": 401,
        "service-fails": 500,
        "gateway-fails": 500,
        "deadline": 504,
    }
    assert len(observed.said) == 2
    for log in observed.logs.values():
        for words in (SECRET, KEY, USER, *observed.said):
            assert words not in log
        assert "ValueError" in log


@pytest.mark.parametrize("process", ["service", "gateway"])
def test_each_line_is_an_object(json_told: Observed, process: str) -> None:
    """All that a process says is JSON, with what every line has."""
    for line in json_told.logs[process].splitlines():
        assert {"time", "level", "logger", "message"} <= orjson.loads(line).keys()


@pytest.mark.parametrize("process", ["service", "gateway"])
def test_each_line_of_text_begins_with_its_time(text_told: Observed, process: str) -> None:
    """What a caller sends begins no line; below an error's line its exception is indented."""
    for line in text_told.logs[process].splitlines():
        assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z [A-Z]+ |    ", line)


def test_one_line_a_request_on_each_side(json_told: Observed) -> None:
    """Both sides tell of a request once, by the same id and in the same trace."""
    service, gateway = (json_told.line(name, "whole") for name in ("service", "gateway"))
    assert service["trace_id"] == gateway["trace_id"] == TRACE
    assert service["code"] == "OK"
    assert service["model"] == MODEL
    assert len(service["key_id"]) == len(service["user_hash"]) == 12
    assert service["prompt_tokens"] > service["cached_tokens"]
    assert service["completion_tokens"] == 20
    assert service["finish_reasons"] == ["length"]
    assert 0 <= service["queue_seconds"] < service["ttft_seconds"] < service["duration_seconds"]
    assert 0 < service["itl_seconds"] < service["duration_seconds"]
    assert (gateway["method"], gateway["route"], gateway["status"]) == ("POST", ROUTE, 200)
    assert gateway["duration_seconds"] >= service["duration_seconds"]
    assert 0 < gateway["ttfb_seconds"] <= gateway["duration_seconds"]
    assert gateway["sent_bytes"] > 100
    assert service["streamed"] is gateway["streamed"] is False


def test_stream(json_told: Observed) -> None:
    """A stream begins long before it ends, and both sides say that it was one."""
    service, gateway = (json_told.line(name, "stream") for name in ("service", "gateway"))
    assert service["streamed"] is gateway["streamed"] is True
    assert gateway["ttfb_seconds"] < gateway["duration_seconds"]
    assert service["finish_reasons"] == ["length"]


@pytest.mark.parametrize(
    ("request_id", "code", "status"),
    [
        ("refused", "INVALID_ARGUMENT", 400),
        ("schema", "INVALID_ARGUMENT", 400),
        ("no-key", "UNAUTHENTICATED", 401),
        ("service-fails", "INTERNAL", 500),
        ("left", "CANCELLED", 499),
    ],
)
def test_failures(json_told: Observed, request_id: str, code: str, status: int) -> None:
    """Each side says in its own words how a request ended, who left included."""
    assert json_told.line("service", request_id)["code"] == code
    assert json_told.line("gateway", request_id)["status"] == status


def test_deadline(json_told: Observed) -> None:
    """The gateway keeps the deadline; the service hears of it from the clock or by the cancel."""
    assert json_told.line("gateway", "deadline")["status"] == 504
    assert json_told.line("service", "deadline")["code"] in ("DEADLINE_EXCEEDED", "CANCELLED")


@pytest.mark.parametrize("request_id", ["wrong-type", "unknown-field", "no-json", "gateway-fails"])
def test_what_the_gateway_refuses_is_its_own(json_told: Observed, request_id: str) -> None:
    """What never reached the service is in the gateway's log alone."""
    assert json_told.line("gateway", request_id)["status"] in (400, 500)
    assert request_id not in json_told.logs["service"]


@pytest.mark.usefixtures("json_told")
def test_spans_of_both_are_joined(receiver: Receiver) -> None:
    """The service's span is a child of the gateway's, which is one of the caller's."""
    spans = [span for span in receiver.spans if span.trace_id == TRACE]
    [gateway] = [
        s
        for s in spans
        if s.attributes.get("rapport.request_id") == "whole" and s.process == "rapport-gateway"
    ]
    [service] = [s for s in spans if s.parent_id == gateway.span_id]
    parts = {s.name: s for s in spans if s.parent_id == service.span_id}
    assert gateway.parent_id == PARENT
    assert gateway.name == f"POST {ROUTE}"
    assert gateway.attributes["http.response.status_code"] == 200
    assert gateway.attributes["http.route"] == ROUTE
    assert service.process == "rapport-service"
    assert service.name == "rapport.v1.ChatService/CreateChatCompletion"
    assert service.attributes["gen_ai.request.model"] == MODEL
    assert service.attributes["gen_ai.usage.output_tokens"] == 20
    assert service.attributes["gen_ai.response.finish_reasons"] == ["length"]
    assert parts.keys() == {"queue", "prefill", "decode"}
    order = [
        parts["queue"].began,
        parts["queue"].ended,
        parts["prefill"].ended,
        parts["decode"].ended,
        service.ended,
    ]
    assert order == sorted(order)


@pytest.mark.usefixtures("json_told")
def test_probes_have_no_spans(receiver: Receiver) -> None:
    """Health is asked for all the time and would fill the traces."""
    assert not [span for span in receiver.spans if "health" in span.name.lower()]


def test_a_trace_that_is_none_begins_one(json_told: Observed, receiver: Receiver) -> None:
    """An invalid traceparent costs nothing: the call is the first of a new trace."""
    trace_id = json_told.line("service", "grpc")["trace_id"]
    first = [span for span in receiver.spans if span.trace_id == trace_id and not span.parent_id]
    assert [span.process for span in first] == ["rapport-service"]


@pytest.mark.parametrize(
    ("request_id", "failed"), [("service-fails", True), ("refused", False), ("left", False)]
)
def test_only_our_faults_are_errors(
    json_told: Observed, receiver: Receiver, request_id: str, failed: bool
) -> None:
    """A span fails where the server does, on both sides; not where the caller is wrong or goes."""
    assert json_told.line("service", request_id)
    spans = [s for s in receiver.spans if s.attributes.get("rapport.request_id") == request_id]
    assert [span.failed for span in spans] == [failed, failed]


@pytest.mark.usefixtures("json_told")
def test_no_span_has_what_was_said(receiver: Receiver) -> None:
    """Traces tell of a request what the log does."""
    assert SECRET not in repr(receiver.spans)
    assert KEY not in repr(receiver.spans)
