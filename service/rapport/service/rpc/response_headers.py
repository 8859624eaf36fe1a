"""Headers that an RPC answers with, in the names that Fireworks gives them.

They are kept with the RPC's context, from where the interceptor sends them before the
first message.
"""

from __future__ import annotations

from contextvars import ContextVar

from rapport.v1.usage_pb2 import PerfMetrics

_HEADERS: ContextVar[dict[str, str]] = ContextVar("headers")


def begin() -> None:
    """Starts an RPC without headers."""
    _HEADERS.set({})


def current() -> tuple[tuple[str, str], ...]:
    """The headers of this RPC."""
    return tuple(_HEADERS.get().items())


def set_prompt(metrics: PerfMetrics) -> None:
    """Tells of the prompt: all that is known before a stream begins."""
    _HEADERS.get().update(
        {
            "fireworks-prompt-tokens": str(metrics.prompt_tokens),
            "fireworks-cached-prompt-tokens": str(metrics.cached_prompt_tokens),
        }
    )


def set_metrics(metrics: PerfMetrics) -> None:
    """Tells how a whole answer was made. Times are in seconds."""
    set_prompt(metrics)
    _HEADERS.get().update(
        {
            "fireworks-server-time-to-first-token": f"{metrics.server_time_to_first_token:.6f}",
            "fireworks-server-processing-time": f"{metrics.server_processing_time:.6f}",
        }
    )
    if metrics.HasField("speculation_acceptance"):
        acceptance = metrics.speculation_acceptance
        _HEADERS.get()["fireworks-speculation-acceptance"] = f"{acceptance:.6f}"
