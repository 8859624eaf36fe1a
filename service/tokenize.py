"""Tokens of a text or of a conversation, as the model would see them."""

from __future__ import annotations

from rapport.v1.chat_pb2 import CreateChatCompletionRequest
from rapport.v1.tokenize_pb2 import TokenizeRequest, TokenizeResponse
from service.errors import InvalidRequest, ModelNotFound, Violation
from service.lifecycle import Served
from service.names import is_named
from service.rules import Violations, required
from service.tools.use import tool_use
from service.validate_messages import message_violations
from service.validate_tools import tool_violations

# Long enough for any context, short enough that the answer stays small.
MOST_CHARACTERS = 1_000_000


def tokenized(request: TokenizeRequest, served: Served) -> TokenizeResponse:
    """The tokens that a request asks for.

    Raises:
        ModelNotFound: it is for another model.
        InvalidRequest: it has neither a text nor messages, or both, or they break a rule.
    """
    if request.model and not is_named(served.model, request.model):
        raise ModelNotFound
    if violations := list(_violations(request)):
        raise InvalidRequest(violations)
    vocabulary = served.engine.vocabulary
    if request.HasField("text"):
        tokens = tuple(vocabulary.encode_text(request.text))
    else:
        tools = tool_use(_conversation(request))
        tokens = served.prompts.read(request.messages, tools=tools.shown)
    pieces = [vocabulary.spell([token]) for token in tokens]
    return TokenizeResponse(token_ids=tokens, pieces=pieces, count=len(tokens))


def _violations(request: TokenizeRequest) -> Violations:
    yield from required("model", given=bool(request.model))
    if not request.HasField("text"):
        yield from message_violations(_conversation(request))
        yield from tool_violations(_conversation(request))
        return
    for field in ("messages", "tools"):
        if getattr(request, field):
            yield Violation(field, "Input should be unset where 'text' is set")
    if len(request.text) > MOST_CHARACTERS:
        told = f"String should have at most {MOST_CHARACTERS} characters"
        yield Violation("text", told)


def _conversation(request: TokenizeRequest) -> CreateChatCompletionRequest:
    """The part that the rules of a chat request are about."""
    return CreateChatCompletionRequest(messages=request.messages, tools=request.tools)
