"""Tokenizes a text or a conversation, as the model would see it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rapport.common.fair_threads import Steps
from rapport.service.engine.text.vocabulary import Vocabulary
from rapport.service.errors import FieldViolation
from rapport.service.lifecycle import ServedModel
from rapport.service.request.limits import message_length_violations
from rapport.service.request.messages import message_violations
from rapport.service.request.rules import (
    Parser,
    Violations,
    check_given,
    check_length,
    limits_of,
    run,
)
from rapport.service.request.tools import parse_functions
from rapport.service.tools.tool_choice import ToolPolicy
from rapport.v1.message_pb2 import ChatMessage
from rapport.v1.tokenize_pb2 import TokenizeRequest, TokenizeResponse

TEXT_LIMITS = limits_of(TokenizeRequest, "text")
# Spelling them takes some milliseconds.
TOKENS_PER_STEP = 4096


@dataclass(frozen=True, slots=True)
class ConversationToTokenize:
    """Messages, and the tools that the prompt tells the model about."""

    messages: Sequence[ChatMessage]
    tools: ToolPolicy


def tokenize(request: TokenizeRequest, served: ServedModel) -> Steps[TokenizeResponse]:
    """The tokens of a request whose lists have passed `check_sizes`.

    Raises:
        ModelNotFoundError: it is for another model.
        InvalidRequestError: it has neither a text nor messages, or both, or they break a rule.
    """
    served.check_name(request.model)
    parsed = run(_parse(request))
    tokens: Sequence[int]
    if isinstance(parsed, str):
        tokens = yield from served.prompts.encode_text(parsed)
    else:
        tokens = yield from served.prompts.encode(parsed.messages, tools=parsed.tools.definitions)
    return (yield from _response(tokens, served.engine.vocabulary))


def _response(tokens: Sequence[int], vocabulary: Vocabulary) -> Steps[TokenizeResponse]:
    response = TokenizeResponse(count=len(tokens))
    for start in range(0, len(tokens), TOKENS_PER_STEP):
        part = tokens[start : start + TOKENS_PER_STEP]
        response.token_ids.extend(part)
        response.pieces.extend(vocabulary.spell([token]) for token in part)
        yield False
    return response


def _parse(request: TokenizeRequest) -> Parser[str | ConversationToTokenize]:
    yield from check_given("model", given=bool(request.model))
    if request.HasField("text"):
        yield from _text_violations(request)
        return request.text
    yield from message_violations(request.messages)
    yield from message_length_violations(request.messages)
    functions = yield from parse_functions(request.tools)
    return ConversationToTokenize(request.messages, ToolPolicy(functions))


def _text_violations(request: TokenizeRequest) -> Violations:
    for field in ("messages", "tools"):
        if getattr(request, field):
            yield FieldViolation(field, "Input should be unset where 'text' is set")
    yield from check_length("text", request.text, TEXT_LIMITS)
