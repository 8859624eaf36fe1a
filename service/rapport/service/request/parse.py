"""Parses a chat request of the API: checks all its rules, and gives plain values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rapport.service.engine.request import SamplingParams, Tier
from rapport.service.errors import ModelNotFoundError
from rapport.service.prompt.turns import content_text
from rapport.service.request import fields
from rapport.service.request.limits import message_length_violations, option_length_violations
from rapport.service.request.messages import message_violations
from rapport.service.request.model_names import is_named
from rapport.service.request.rules import Parser, check_given, is_set, run
from rapport.service.request.tools import parse_tool_policy
from rapport.service.tools.tool_choice import ToolPolicy
from rapport.v1.chat_pb2 import (
    CONTEXT_LENGTH_EXCEEDED_BEHAVIOR_ERROR,
    SERVICE_TIER_FLEX,
    SERVICE_TIER_PRIORITY,
    CreateChatCompletionRequest,
    StopSequences,
)
from rapport.v1.format_pb2 import ResponseFormat
from rapport.v1.message_pb2 import ChatMessage

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
    raw_output: bool
    perf_metrics: bool
    separate_usage: bool
    """In a stream, usage comes in a message of its own."""


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A chat request that keeps the rules of the API."""

    model: str
    """As the caller spells it."""
    messages: Sequence[ChatMessage]
    tools: ToolPolicy
    response_format: ResponseFormat
    max_prompt_tokens: int | None
    """The length to which earlier messages are left out."""
    safe_tokenization: bool
    max_tokens: MaxTokens
    n: int
    sampling: SamplingParams
    stop: tuple[str, ...]
    ignore_eos: bool
    prediction: str | tuple[int, ...]
    """The text, or the tokens, that the answer is likely to be."""
    cache_isolation_key: str
    tier: Tier
    logprobs: LogprobsOptions | None
    output: OutputOptions


def parse_chat_request(
    request: CreateChatCompletionRequest, *, model: str, vocabulary_size: int, streaming: bool
) -> ChatRequest:
    """Parses a request whose lists have passed `check_sizes`.

    Args:
        request: the message as it came.
        model: the id of the model that is served.
        vocabulary_size: the number of its tokens.
        streaming: whether the streaming RPC was called.

    Raises:
        ModelNotFoundError: the request is for another model.
        InvalidRequestError: it breaks the rules; all violations are named.
    """
    if request.model and not is_named(model, request.model):
        raise ModelNotFoundError
    return run(_parse(request, vocabulary_size, streaming=streaming))


def _parse(
    request: CreateChatCompletionRequest, vocabulary_size: int, *, streaming: bool
) -> Parser[ChatRequest]:
    # The order is that in which callers read the violations.
    yield from check_given("model", given=bool(request.model))
    yield from message_violations(request.messages)
    yield from fields.number_violations(request)
    yield from fields.stop_violations(request.stop)
    yield from fields.label_violations(request)
    yield from option_length_violations(request)
    yield from message_length_violations(request.messages)
    yield from fields.enum_violations(request)
    yield from fields.exclusion_violations(request)
    yield from fields.logprobs_violations(request)
    tools = yield from parse_tool_policy(request)
    yield from fields.reasoning_violations(request)
    yield from fields.store_violations(request)
    yield from fields.bias_violations(request, vocabulary_size)
    yield from fields.stream_violations(request, streaming=streaming)
    return ChatRequest(
        model=request.model,
        messages=request.messages,
        tools=tools,
        response_format=request.response_format,
        max_prompt_tokens=request.prompt_truncate_len or None,
        safe_tokenization=request.safe_tokenization or not request.HasField("safe_tokenization"),
        max_tokens=_max_tokens(request),
        n=request.n or 1,
        sampling=_sampling(request),
        stop=_stop(request.stop),
        ignore_eos=request.ignore_eos,
        prediction=_prediction(request, vocabulary_size),
        cache_isolation_key=request.prompt_cache_isolation_key,
        tier=TIERS.get(request.service_tier, Tier.DEFAULT),
        logprobs=_logprobs(request),
        output=_output(request),
    )


def _max_tokens(request: CreateChatCompletionRequest) -> MaxTokens:
    behavior = request.context_length_exceeded_behavior
    must_fit = behavior == CONTEXT_LENGTH_EXCEEDED_BEHAVIOR_ERROR
    for field in ("max_tokens", "max_completion_tokens"):
        if is_set(request, field):
            return MaxTokens(field, getattr(request, field), must_fit)
    return MaxTokens()


def _sampling(request: CreateChatCompletionRequest) -> SamplingParams:
    given = {name: getattr(request, name) for name in SAMPLING_FIELDS if is_set(request, name)}
    return SamplingParams(**given, logit_bias=dict(request.logit_bias))


def _stop(stop: StopSequences) -> tuple[str, ...]:
    return (stop.text,) if stop.text else tuple(stop.list.items)


def _prediction(
    request: CreateChatCompletionRequest, vocabulary_size: int
) -> str | tuple[int, ...]:
    if request.speculation.WhichOneof("kind") == "token_ids":
        # An id that no token has can only be wrong.
        ids = request.speculation.token_ids.items
        return tuple(id_ for id_ in ids if 0 <= id_ < vocabulary_size)
    return request.speculation.text or content_text(request.prediction.content)


def _logprobs(request: CreateChatCompletionRequest) -> LogprobsOptions | None:
    if request.logprobs.WhichOneof("kind") == "count":
        return LogprobsOptions(request.logprobs.count, legacy=True)
    return LogprobsOptions(request.top_logprobs) if request.logprobs.enabled else None


def _output(request: CreateChatCompletionRequest) -> OutputOptions:
    return OutputOptions(
        echo=request.echo,
        echo_last=request.echo_last,
        token_ids=request.return_token_ids,
        raw_output=request.raw_output,
        perf_metrics=request.perf_metrics_in_response,
        separate_usage=request.stream_options.include_usage,
    )
