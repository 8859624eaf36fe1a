"""What requests for text have in common, chat or not, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from rapport.service.engine.request import SamplingParams, Tier
from rapport.service.request.fields import RequestMessage
from rapport.service.request.rules import is_set
from rapport.service.tools.tool_choice import NO_TOOLS, ToolPolicy
from rapport.v1.chat_pb2 import (
    CONTEXT_LENGTH_EXCEEDED_BEHAVIOR_ERROR,
    SERVICE_TIER_FLEX,
    SERVICE_TIER_PRIORITY,
    StopSequences,
)
from rapport.v1.format_pb2 import ResponseFormat

NO_DEFAULTS: Mapping[str, float] = MappingProxyType({})
SAMPLING_FIELDS = (
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "typical_p",
    "repetition_penalty",
    "frequency_penalty",
    "presence_penalty",
    "mirostat_target",
    "mirostat_lr",
    "seed",
)

TIERS = {SERVICE_TIER_PRIORITY: Tier.PRIORITY, SERVICE_TIER_FLEX: Tier.FLEX}


@dataclass(frozen=True, slots=True)
class MaxTokens:
    """How many tokens a choice may have at most."""

    field: str = "max_tokens"
    """The field that says it: there are two names for it."""
    value: int | None = None
    must_fit: bool = False
    """Whether to refuse the request, instead of lowering the value, where the context is full."""


@dataclass(frozen=True, slots=True)
class LogprobsOptions:
    """Which log probabilities the answer has."""

    alternatives: int
    """At each token, beside the token itself."""
    legacy: bool = False
    """Whether in the legacy shape."""


@dataclass(frozen=True, slots=True)
class OutputOptions:
    """What the answer has beside the text."""

    echo: bool
    """The prompt comes before the text."""
    echo_last: int
    """So many of the prompt's last tokens come before the text; it goes before `echo`."""
    token_ids: bool
    perf_metrics: bool
    separate_usage: bool
    """In a stream, usage comes in a message of its own."""

    def echoed_tokens(self, prompt_tokens: int) -> int:
        """How many tokens of a prompt come before the text."""
        if self.echo_last:
            return min(self.echo_last, prompt_tokens)
        return prompt_tokens if self.echo else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TextRequest:
    """A request for text that keeps the rules of the API."""

    model: str
    """As the caller spells it."""
    response_format: ResponseFormat
    max_tokens: MaxTokens
    n: int
    """The choices of each prompt."""
    sampling: SamplingParams
    stop: tuple[str, ...]
    ignore_eos: bool
    cache_isolation_key: str
    tier: Tier
    logprobs: LogprobsOptions | None
    output: OutputOptions
    tools: ToolPolicy = NO_TOOLS


def common_options(
    request: RequestMessage, sampling_defaults: Mapping[str, float]
) -> dict[str, Any]:
    """The fields of `TextRequest` that all kinds of requests have."""
    return {
        "model": request.model,
        "response_format": request.response_format,
        "max_tokens": _max_tokens(request),
        "n": request.n or 1,
        "sampling": _sampling(request, sampling_defaults),
        "stop": _stop(request.stop),
        "ignore_eos": request.ignore_eos,
        "cache_isolation_key": request.prompt_cache_isolation_key,
        "tier": TIERS.get(request.service_tier, Tier.DEFAULT),
        "logprobs": _logprobs(request),
        "output": _output(request),
    }


def _max_tokens(request: RequestMessage) -> MaxTokens:
    behavior = request.context_length_exceeded_behavior
    must_fit = behavior == CONTEXT_LENGTH_EXCEEDED_BEHAVIOR_ERROR
    for field in ("max_tokens", "max_completion_tokens"):
        if field in request.DESCRIPTOR.fields_by_name and is_set(request, field):
            return MaxTokens(field, getattr(request, field), must_fit)
    return MaxTokens()


def _sampling(request: RequestMessage, defaults: Mapping[str, float]) -> SamplingParams:
    given = {name: getattr(request, name) for name in SAMPLING_FIELDS if is_set(request, name)}
    return SamplingParams(**{**defaults, **given}, logit_bias=dict(request.logit_bias))


def _stop(stop: StopSequences) -> tuple[str, ...]:
    return (stop.text,) if stop.text else tuple(stop.list.items)


def _logprobs(request: RequestMessage) -> LogprobsOptions | None:
    if request.logprobs.WhichOneof("kind") == "count":
        return LogprobsOptions(request.logprobs.count, legacy=True)
    return LogprobsOptions(request.top_logprobs) if request.logprobs.enabled else None


def _output(request: RequestMessage) -> OutputOptions:
    return OutputOptions(
        echo=request.echo,
        echo_last=request.echo_last,
        token_ids=request.return_token_ids,
        perf_metrics=request.perf_metrics_in_response,
        separate_usage=request.stream_options.include_usage,
    )
