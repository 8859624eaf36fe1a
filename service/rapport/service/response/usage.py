"""The tokens and times of a request, as answers report them."""

from __future__ import annotations

import time

from rapport.service.engine.batch import GenerationBatch
from rapport.service.engine.generation import Generation
from rapport.v1.usage_pb2 import PerfMetrics, PromptTokensDetails, Usage


def usage_of(generation: Generation | GenerationBatch) -> Usage:
    """The tokens used until now. A prompt counts once, however many choices there are."""
    prompt, completion = generation.prompt_tokens, generation.completion_tokens
    return Usage(
        prompt_tokens=prompt,
        completion_tokens=completion,
        total_tokens=prompt + completion,
        prompt_tokens_details=PromptTokensDetails(cached_tokens=generation.cached_tokens),
    )


def metrics_of(generation: Generation | GenerationBatch, arrived_at: float) -> PerfMetrics:
    """How the request ran until now; it arrived at a time of the monotonic clock."""
    drafted = generation.drafted_tokens
    started_at, first_token_at = generation.started_at, generation.first_token_at
    metrics = PerfMetrics(
        prompt_tokens=generation.prompt_tokens,
        cached_prompt_tokens=generation.cached_tokens,
        server_time_to_first_token=0.0 if first_token_at is None else first_token_at - arrived_at,
        server_processing_time=time.monotonic() - arrived_at,
        speculation_acceptance=generation.accepted_tokens / drafted if drafted else None,
    )
    if started_at is not None:
        metrics.prefill_queue_duration = started_at - generation.submitted_at
        if first_token_at is not None:
            metrics.prefill_duration = first_token_at - started_at
            metrics.generation_duration = generation.last_token_at - first_token_at
    return metrics
