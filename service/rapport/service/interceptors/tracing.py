"""The trace span of each RPC."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import grpc

from rapport.common.telemetry.traces import Tracer
from rapport.service.interceptors.access_log import MAX_NAME_CHARS
from rapport.service.interceptors.context import RequestContext, RequestObserver
from rapport.service.rpc.service_names import COMPLETION_SERVICE

# The codes that are the server's fault, by OpenTelemetry's conventions for servers.
SERVER_ERRORS = {
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DATA_LOSS,
}


def trace_with(tracer: Tracer) -> RequestObserver:
    """Records the span of an RPC that has ended, and sets its trace id in the context."""

    def observe(context: RequestContext) -> None:
        name = context.method.removeprefix("/")
        span = tracer.begin(name, context.trace_headers, context.arrived_at)
        context.trace_id = span.trace_id
        for part, began, ended in _phases(context):
            span.part(part, began, ended)
        attributes = {key: value for key, value in _attributes(context).items() if value}
        span.end(name, attributes, context.code.name if context.code in SERVER_ERRORS else "")

    return observe


def _phases(context: RequestContext) -> Iterator[tuple[str, float, float]]:
    """The phases of the generation that were reached; an unfinished one ends now."""
    generation = context.generation
    if generation is None:
        return
    now = time.monotonic()
    yield "queue", generation.submitted_at, generation.started_at or now
    if generation.started_at is not None:
        yield "prefill", generation.started_at, generation.first_token_at or now
    if generation.first_token_at is not None:
        yield "decode", generation.first_token_at, generation.last_token_at


def _operation(context: RequestContext) -> str:
    """The name that OpenTelemetry gives to what the RPC does."""
    return "text_completion" if COMPLETION_SERVICE in context.method else "chat"


def _attributes(context: RequestContext) -> dict[str, Any]:
    common = {
        "rpc.system.name": "grpc",
        "rpc.method": context.method.removeprefix("/"),
        "rpc.response.status_code": context.code.name,
        "rapport.request_id": context.request_id,
    }
    if not context.model:
        return common
    reasons = context.transcript.finish_reasons
    return common | {
        "gen_ai.operation.name": _operation(context),
        "gen_ai.provider.name": "rapport",
        "gen_ai.request.model": context.model[:MAX_NAME_CHARS],
        "gen_ai.response.finish_reasons": [reasons[index] for index in sorted(reasons)],
        "gen_ai.usage.input_tokens": context.prompt_tokens,
        "gen_ai.usage.cache_read.input_tokens": context.cached_tokens,
        "gen_ai.usage.output_tokens": context.completion_tokens,
    }
