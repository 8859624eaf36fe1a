"""Response headers about performance, under the names that Fireworks gives them."""

from __future__ import annotations

from rapport.v1.usage_pb2 import PerfMetrics


def prompt_headers(metrics: PerfMetrics) -> dict[str, str]:
    """The headers about the prompt: all that is known before a stream begins."""
    return {
        "fireworks-prompt-tokens": str(metrics.prompt_tokens),
        "fireworks-cached-prompt-tokens": str(metrics.cached_prompt_tokens),
    }


def metrics_headers(metrics: PerfMetrics) -> dict[str, str]:
    """The headers of a complete answer. Times are in seconds."""
    headers = prompt_headers(metrics) | {
        "fireworks-server-time-to-first-token": f"{metrics.server_time_to_first_token:.6f}",
        "fireworks-server-processing-time": f"{metrics.server_processing_time:.6f}",
    }
    if metrics.HasField("speculation_acceptance"):
        headers["fireworks-speculation-acceptance"] = f"{metrics.speculation_acceptance:.6f}"
    return headers
