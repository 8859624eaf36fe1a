"""The access log: one line for each RPC."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from rapport.common.telemetry.formatters import fields
from rapport.service.interceptors.context import RequestContext, RequestObserver

access = logging.getLogger("rapport.access")

FAILURE_INTERVAL_S = 1.0
"""The shortest time between two lines about failed RPCs of callers without a key."""
MAX_NAME_CHARS = 200
"""How much is logged of a name that the caller chose."""


def log_access(context: RequestContext) -> None:
    """Writes the line. It has the messages and answers only if they were kept, and never a key."""
    values = (context.method, context.code.name, context.elapsed_s * 1000, context.request_id)
    access.info("%s %s %.1f ms %s", *values, extra=fields(**fields_of(context)))


def log_failures(clock: Callable[[], float] = time.monotonic) -> RequestObserver:
    """Logs RPCs that were refused, where those that succeed are not logged: health checks.

    A caller without a key cannot flood the log: the next line counts what had none.
    """
    next_at, unlogged = clock(), 0

    def observe(context: RequestContext) -> None:
        nonlocal next_at, unlogged
        if not context.error_reason:
            return
        if clock() < next_at:
            unlogged += 1
            return
        values = (context.method, context.code.name, context.error_reason, unlogged)
        access.info(
            "%s %s %s; %d more were not logged", *values, extra=fields(**fields_of(context))
        )
        next_at, unlogged = clock() + FAILURE_INTERVAL_S, 0

    return observe


def fields_of(context: RequestContext) -> dict[str, Any]:
    """The fields of a JSON line; None for those that have no value."""
    return {
        "request_id": context.request_id,
        "trace_id": context.trace_id or None,
        "method": context.method,
        "code": context.code.name,
        "streamed": context.streamed,
        "duration_seconds": round(context.elapsed_s, 6),
        "key_id": context.key_id or None,
        "user_hash": context.user_hash or None,
        "model": context.model[:MAX_NAME_CHARS] or None,
    } | _generation_fields(context)


def _generation_fields(context: RequestContext) -> dict[str, Any]:
    if context.generation is None:
        return {"messages": context.transcript.messages}
    reasons = context.transcript.finish_reasons
    return {
        "prompt_tokens": context.prompt_tokens,
        "cached_tokens": context.cached_tokens,
        "completion_tokens": context.completion_tokens,
        "queue_seconds": _rounded(context.queue_s),
        "ttft_seconds": _rounded(context.ttft_s),
        "itl_seconds": _rounded(context.itl_s),
        "finish_reasons": [reasons[index] for index in sorted(reasons)],
        "messages": context.transcript.messages,
        "answers": context.transcript.texts,
    }


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 6)
