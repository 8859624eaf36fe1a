"""Parses a chat request of the API: checks all its rules, and gives plain values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from rapport.service.prompt.turns import content_text
from rapport.service.request import fields
from rapport.service.request.limits import message_length_violations, option_length_violations
from rapport.service.request.messages import message_violations
from rapport.service.request.options import NO_DEFAULTS, TextRequest, common_options
from rapport.service.request.rules import Parser, check_given, run
from rapport.service.request.tools import parse_tool_policy
from rapport.service.tools.call_format import HERMES, CallFormat
from rapport.v1.chat_pb2 import CreateChatCompletionRequest
from rapport.v1.message_pb2 import ChatMessage


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRequest(TextRequest):
    """A chat request that keeps the rules of the API."""

    messages: Sequence[ChatMessage]
    max_prompt_tokens: int | None
    """The length to which earlier messages are left out."""
    safe_tokenization: bool
    prediction: str | tuple[int, ...]
    """The text, or the tokens, that the answer is likely to be."""
    raw_output: bool


def parse_chat_request(
    request: CreateChatCompletionRequest,
    *,
    vocabulary_size: int,
    streaming: bool,
    sampling_defaults: Mapping[str, float] = NO_DEFAULTS,
    call_format: CallFormat = HERMES,
) -> ChatRequest:
    """Parses a request whose lists have passed `check_sizes`.

    Args:
        request: the message as it came.
        vocabulary_size: the number of the model's tokens.
        streaming: whether the streaming RPC was called.
        sampling_defaults: fields of `SamplingParams` for a request that does not set them.
        call_format: how the model writes calls.

    Raises:
        InvalidRequestError: it breaks the rules; all violations are named.
    """
    parsed = run(_parse(request, vocabulary_size, sampling_defaults, streaming=streaming))
    return replace(parsed, tools=replace(parsed.tools, format=call_format))


def _parse(
    request: CreateChatCompletionRequest,
    vocabulary_size: int,
    sampling_defaults: Mapping[str, float],
    *,
    streaming: bool,
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
        **common_options(request, sampling_defaults),
        messages=request.messages,
        tools=tools,
        max_prompt_tokens=request.prompt_truncate_len or None,
        safe_tokenization=request.safe_tokenization or not request.HasField("safe_tokenization"),
        prediction=_prediction(request, vocabulary_size),
        raw_output=request.raw_output,
    )


def _prediction(
    request: CreateChatCompletionRequest, vocabulary_size: int
) -> str | tuple[int, ...]:
    if request.speculation.WhichOneof("kind") == "token_ids":
        # An id that no token has can only be wrong.
        ids = request.speculation.token_ids.items
        return tuple(id_ for id_ in ids if 0 <= id_ < vocabulary_size)
    return request.speculation.text or content_text(request.prediction.content)
