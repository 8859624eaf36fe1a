"""Tokens of a text or of a conversation, as the model would see them."""

from __future__ import annotations

from rapport.service.errors import FieldViolation, InvalidRequestError, ModelNotFoundError
from rapport.service.lifecycle import ServedModel
from rapport.service.request.limits import MOST_CHARACTERS, length_violations
from rapport.service.request.messages import message_violations
from rapport.service.request.model_names import is_named
from rapport.service.request.rules import Violations, length, required
from rapport.service.request.tools import tool_violations
from rapport.service.tools.tool_choice import parse_tool_policy
from rapport.v1.chat_pb2 import CreateChatCompletionRequest
from rapport.v1.tokenize_pb2 import TokenizeRequest, TokenizeResponse


def tokenized(request: TokenizeRequest, served: ServedModel) -> TokenizeResponse:
    """The tokens that a request asks for. Its lists are none too long.

    Raises:
        ModelNotFoundError: it is for another model.
        InvalidRequestError: it has neither a text nor messages, or both, or they break a rule.
    """
    if request.model and not is_named(served.model, request.model):
        raise ModelNotFoundError
    if violations := list(_violations(request)):
        raise InvalidRequestError(violations)
    vocabulary = served.engine.vocabulary
    if request.HasField("text"):
        tokens = tuple(vocabulary.encode_text(request.text))
    else:
        tools = parse_tool_policy(_conversation(request))
        tokens = served.prompts.encode(request.messages, tools=tools.definitions)
    pieces = [vocabulary.spell([token]) for token in tokens]
    return TokenizeResponse(token_ids=tokens, pieces=pieces, count=len(tokens))


def _violations(request: TokenizeRequest) -> Violations:
    yield from required("model", given=bool(request.model))
    if not request.HasField("text"):
        conversation = _conversation(request)
        yield from message_violations(conversation)
        yield from length_violations(conversation)
        yield from tool_violations(conversation)
        return
    for field in ("messages", "tools"):
        if getattr(request, field):
            yield FieldViolation(field, "Input should be unset where 'text' is set")
    yield from length("text", request.text, 0, MOST_CHARACTERS)


def _conversation(request: TokenizeRequest) -> CreateChatCompletionRequest:
    """The part that the rules of a chat request are about."""
    return CreateChatCompletionRequest(messages=request.messages, tools=request.tools)
