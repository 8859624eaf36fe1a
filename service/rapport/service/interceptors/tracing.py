"""The span that each RPC leaves in a trace."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import grpc

from rapport.common.telemetry.traces import Tracer
from rapport.service.interceptors.access_log import MOST_OF_A_NAME
from rapport.service.interceptors.account import Account
from rapport.service.interceptors.interceptors import Closing

# Those that are no fault of the caller's, by OpenTelemetry's conventions for servers.
FAULTS = {
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DATA_LOSS,
}


def trace_with(tracer: Tracer) -> Closing:
    """Makes the span of an RPC that has ended, and tells its account the trace."""

    def traced(ended: Account) -> None:
        name = ended.method.removeprefix("/")
        span = tracer.begin(name, ended.caller_trace, ended.arrived)
        ended.trace_id = span.trace_id
        for part, began, until in _parts(ended):
            span.part(part, began, until)
        told = {key: value for key, value in _attributes(ended).items() if value}
        span.end(name, told, ended.code.name if ended.code in FAULTS else "")

    return traced


def _parts(ended: Account) -> Iterator[tuple[str, float, float]]:
    """What a generation went through, as far as it came."""
    made = ended.generation
    if made is None:
        return
    now = time.monotonic()
    yield "queue", made.submitted_at, made.begun_at or now
    if made.begun_at is not None:
        yield "prefill", made.begun_at, made.first_at or now
    if made.first_at is not None:
        yield "decode", made.first_at, made.last_at


def _attributes(ended: Account) -> dict[str, Any]:
    common = {
        "rpc.system.name": "grpc",
        "rpc.method": ended.method.removeprefix("/"),
        "rpc.response.status_code": ended.code.name,
        "rapport.request_id": ended.request_id,
    }
    if not ended.model:
        return common
    reasons = ended.transcript.finish_reasons
    return common | {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "rapport",
        "gen_ai.request.model": ended.model[:MOST_OF_A_NAME],
        "gen_ai.response.finish_reasons": [reasons[index] for index in sorted(reasons)],
        "gen_ai.usage.input_tokens": ended.prompt_tokens,
        "gen_ai.usage.cache_read.input_tokens": ended.cached_tokens,
        "gen_ai.usage.output_tokens": ended.completion_tokens,
    }
