"""How much a request may hold.

Lists are looked at before all else: every other rule looks at each of their items.
"""

from __future__ import annotations

from collections.abc import Sequence

from rapport.service.errors import FieldViolation, InvalidRequestError
from rapport.service.request.rules import Violations, length, size
from rapport.v1.chat_pb2 import CreateChatCompletionRequest
from rapport.v1.message_pb2 import ChatContent, ChatMessage
from rapport.v1.tokenize_pb2 import TokenizeRequest

MOST_MESSAGES = 10_000
MOST_PARTS = 1_000
MOST_CALLS = 128
# Parts and calls of all messages together.
MOST_PIECES = 20_000
MOST_TOOLS = 128
MOST_BIASES = 4_096
MOST_METADATA = 64
MOST_FORETOLD = 100_000
# Longer than what any context holds.
MOST_CHARACTERS = 1_000_000
LABEL_LENGTH = 1024


def check_size(request: CreateChatCompletionRequest | TokenizeRequest) -> None:
    """Lets a request pass whose lists are none too long.

    Costs a look at each message and leaves to others what is in it.

    Raises:
        InvalidRequestError: some are.
    """
    violations = [
        *message_size_violations(request.messages),
        *size("tools", len(request.tools), 0, MOST_TOOLS),
    ]
    if isinstance(request, CreateChatCompletionRequest):
        violations += option_size_violations(request)
    if violations:
        raise InvalidRequestError(violations)


def option_size_violations(request: CreateChatCompletionRequest) -> Violations:
    lists = {
        "functions": (len(request.functions), MOST_TOOLS),
        "logit_bias": (len(request.logit_bias), MOST_BIASES),
        "metadata": (len(request.metadata), MOST_METADATA),
        "speculation": (len(request.speculation.token_ids.items), MOST_FORETOLD),
        "prediction.content": (len(request.prediction.content.parts.items), MOST_PARTS),
    }
    for field, (items, most) in lists.items():
        yield from size(field, items, 0, most)


def message_size_violations(messages: Sequence[ChatMessage]) -> Violations:
    yield from size("messages", len(messages), 0, MOST_MESSAGES)
    pieces = 0
    for index, message in enumerate(messages[:MOST_MESSAGES]):
        parts, calls = len(message.content.parts.items), len(message.tool_calls)
        yield from size(f"messages[{index}].content", parts, 0, MOST_PARTS)
        yield from size(f"messages[{index}].tool_calls", calls, 0, MOST_CALLS)
        pieces += parts + calls
    if pieces > MOST_PIECES:
        text = f"Messages should have at most {MOST_PIECES} parts and tool calls together"
        yield FieldViolation("messages", f"{text}, not {pieces}")


def length_violations(request: CreateChatCompletionRequest) -> Violations:
    """Texts that are too long, of those that the context does not bound as it does messages."""
    for key, value in request.metadata.items():
        path = f"metadata.{key[:LABEL_LENGTH]}"
        yield from length(path, max(key, value, key=len), 0, LABEL_LENGTH)
    yield from length("speculation", request.speculation.text, 0, MOST_CHARACTERS)
    yield from content_length_violations("prediction.content", request.prediction.content)
    for index, message in enumerate(request.messages):
        path = f"messages[{index}]"
        yield from length(f"{path}.tool_call_id", message.tool_call_id, 0, LABEL_LENGTH)
        for place, call in enumerate(message.tool_calls):
            field = f"{path}.tool_calls[{place}]"
            yield from length(f"{field}.id", call.id, 0, LABEL_LENGTH)
            arguments = call.function.arguments
            yield from length(f"{field}.function.arguments", arguments, 0, MOST_CHARACTERS)


def content_length_violations(path: str, content: ChatContent) -> Violations:
    characters = sum(len(part.text) for part in content.parts.items) + len(content.text)
    if characters > MOST_CHARACTERS:
        yield FieldViolation(path, f"Text should have at most {MOST_CHARACTERS} characters")
