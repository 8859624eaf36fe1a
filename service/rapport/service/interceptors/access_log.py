"""The line that each RPC leaves in the log."""

from __future__ import annotations

import logging
from typing import Any

from rapport.common.telemetry.formatters import fields
from rapport.service.interceptors.account import Account

access = logging.getLogger("rapport.access")

MOST_OF_A_NAME = 200
"""Characters of a name that a caller chose."""


def log_access(ended: Account) -> None:
    """Writes one line. What was said is in it only if it was kept, a key never."""
    took = ended.duration * 1000
    told = (ended.method, ended.code.name, took, ended.request_id)
    access.info("%s %s %.1f ms %s", *told, extra=fields(**fields_of(ended)))


def fields_of(ended: Account) -> dict[str, Any]:
    """What a JSON line tells of an RPC; None where there is nothing to tell."""
    return {
        "request_id": ended.request_id,
        "trace_id": ended.trace_id or None,
        "method": ended.method,
        "code": ended.code.name,
        "streamed": ended.streamed,
        "duration_seconds": round(ended.duration, 6),
        "key_id": ended.key_id or None,
        "user_hash": ended.user or None,
        "model": ended.model[:MOST_OF_A_NAME] or None,
    } | _generated(ended)


def _generated(ended: Account) -> dict[str, Any]:
    if ended.generation is None:
        return {"messages": ended.transcript.messages}
    reasons = ended.transcript.finish_reasons
    return {
        "prompt_tokens": ended.prompt_tokens,
        "cached_tokens": ended.cached_tokens,
        "completion_tokens": ended.completion_tokens,
        "queue_seconds": _rounded(ended.queued),
        "ttft_seconds": _rounded(ended.ttft),
        "itl_seconds": _rounded(ended.itl),
        "finish_reasons": [reasons[index] for index in sorted(reasons)],
        "messages": ended.transcript.messages,
        "answers": ended.transcript.texts,
    }


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 6)
