from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest

from rapport.common.telemetry.traces import Attributes, Carrier
from rapport.service.engine.generation import Generation
from rapport.service.engine.request import GenerationRequest
from rapport.service.interceptors.context import RequestContext
from rapport.service.interceptors.tracing import trace_with
from tests.service.fakes import request_context

METHOD = "/rapport.v1.ChatService/CreateChatCompletion"


@dataclass
class Noted:
    """A tracer and the span that it gives, which notes what is done to it."""

    trace_id: str = "id"
    carrier: Carrier = field(default_factory=dict)
    begun: tuple[Any, ...] = ()
    parts: list[tuple[str, float, float]] = field(default_factory=list)
    attributes: Attributes = field(default_factory=dict)
    error: str = ""

    def begin(self, name: str, caller: Carrier, began: float) -> Noted:
        self.begun = (name, caller, began)
        return self

    def part(self, name: str, began: float, ended: float) -> None:
        self.parts.append((name, began, ended))

    def end(self, name: str, attributes: Attributes, error: str = "") -> None:
        assert name == self.begun[0]
        self.attributes, self.error = attributes, error


@pytest.fixture
def noted() -> Noted:
    return Noted()


@pytest.fixture
def context() -> RequestContext:
    return request_context(METHOD, "r-1", trace_headers={"traceparent": "given"})


def generated(context: RequestContext, *, begun: bool, first: bool) -> Generation:
    made = Generation(GenerationRequest((1, 2, 3), 9), lambda _: None)
    now = time.monotonic()
    made.submitted_at = now - 4
    made.started_at = now - 3 if begun else None
    made.first_token_at, made.last_token_at = (now - 2, now - 1) if first else (None, now)
    context.generation = made
    return made


def test_span_begins_with_the_rpc(context: RequestContext, noted: Noted) -> None:
    """It is made at the end, for all the time of the RPC, and the context learns the trace."""
    trace_with(noted)(context)
    name = METHOD.removeprefix("/")
    assert noted.begun == (name, {"traceparent": "given"}, context.arrived_at)
    assert context.trace_id == "id"
    assert noted.attributes == {
        "rpc.system.name": "grpc",
        "rpc.method": name,
        "rpc.response.status_code": "OK",
        "rapport.request_id": "r-1",
    }


def test_parts_follow_each_other(context: RequestContext, noted: Noted) -> None:
    """Queue, prefill and decode meet where one becomes the next."""
    made = generated(context, begun=True, first=True)
    trace_with(noted)(context)
    assert noted.parts == [
        ("queue", made.submitted_at, made.started_at),
        ("prefill", made.started_at, made.first_token_at),
        ("decode", made.first_token_at, made.last_token_at),
    ]


@pytest.mark.parametrize(("begun", "names"), [(False, ["queue"]), (True, ["queue", "prefill"])])
def test_what_was_left_ends_now(
    context: RequestContext, noted: Noted, begun: bool, names: list[str]
) -> None:
    """A caller that leaves while its request waits or is read leaves an end to that part."""
    generated(context, begun=begun, first=False)
    before = time.monotonic()
    trace_with(noted)(context)
    assert [name for name, _, _ in noted.parts] == names
    assert before <= noted.parts[-1][2] <= time.monotonic()


def test_generation_is_described(context: RequestContext, noted: Noted) -> None:
    """Model, tokens and reasons go by the conventions for generative models."""
    generated(context, begun=True, first=True).completion_tokens = 7
    context.model = "m"
    context.transcript.finish_reasons = {1: "stop", 0: "length"}
    trace_with(noted)(context)
    expected = {
        "gen_ai.request.model": "m",
        "gen_ai.response.finish_reasons": ["length", "stop"],
        "gen_ai.usage.input_tokens": 3,
        "gen_ai.usage.output_tokens": 7,
    }
    assert expected.items() <= dict(noted.attributes).items()


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (grpc.StatusCode.OK, ""),
        (grpc.StatusCode.INVALID_ARGUMENT, ""),
        (grpc.StatusCode.CANCELLED, ""),
        (grpc.StatusCode.INTERNAL, "INTERNAL"),
        (grpc.StatusCode.UNAVAILABLE, "UNAVAILABLE"),
    ],
)
def test_only_our_faults_are_errors(
    context: RequestContext, noted: Noted, code: grpc.StatusCode, error: str
) -> None:
    """A caller's mistake is no failure of the server's."""
    context.code = code
    trace_with(noted)(context)
    assert noted.error == error
