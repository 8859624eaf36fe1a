"""Response headers about performance, named as Fireworks names them, and about schemas."""

from __future__ import annotations

import json
from collections.abc import Sequence

from rapport.common.model_spec import SamplingDefaults
from rapport.service.engine.request import SamplingParams
from rapport.v1.usage_pb2 import PerfMetrics

PROMPT_TOKENS = "fireworks-prompt-tokens"


def prompt_headers(metrics: PerfMetrics) -> dict[str, str]:
    """The headers about the prompt: all that is known before a stream begins."""
    return {
        PROMPT_TOKENS: str(metrics.prompt_tokens),
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


def sampling_headers(sampling: SamplingParams) -> dict[str, str]:
    """The values that a model may advise, as they are used, in JSON."""
    used = {name: getattr(sampling, name) for name in SamplingDefaults.model_fields}
    return {"fireworks-sampling-options": json.dumps(used)}


def unenforced_headers(paths: Sequence[str]) -> dict[str, str]:
    """The header that lists the paths of what a grammar does not enforce, if there are any."""
    return {"rapport-unenforced": json.dumps(paths)} if paths else {}
