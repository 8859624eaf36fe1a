"""How much a request may hold.

The sizes of lists are checked before everything else, as the other rules visit each item.
The limits of single fields stand in the protos.
"""

from __future__ import annotations

from collections.abc import Sequence

from rapport.service.errors import FieldViolation, InvalidRequestError
from rapport.service.request.fields import RequestMessage
from rapport.service.request.rules import Violations, check_length, check_max_items, limits_of
from rapport.v1.chat_pb2 import CreateChatCompletionRequest, Speculation, TokenIds
from rapport.v1.completion_pb2 import CompletionPrompt, CreateCompletionRequest, TextList
from rapport.v1.message_pb2 import ChatContent, ChatContentParts, ChatMessage
from rapport.v1.tokenize_pb2 import TokenizeRequest
from rapport.v1.tool_pb2 import FunctionCall, ToolCall

MESSAGES = limits_of(CreateChatCompletionRequest, "messages")
TOOLS = limits_of(CreateChatCompletionRequest, "tools")
FUNCTIONS = limits_of(CreateChatCompletionRequest, "functions")
BIASES = limits_of(CreateChatCompletionRequest, "logit_bias")
METADATA = limits_of(CreateChatCompletionRequest, "metadata")
PROMPTS = limits_of(TextList, "items")
PROMPT_TOKENS = SPECULATED_TOKENS = limits_of(TokenIds, "items")
SPECULATED_TEXT = limits_of(Speculation, "text")
PARTS = limits_of(ChatContentParts, "items")
TOOL_CALLS = limits_of(ChatMessage, "tool_calls")
TOOL_CALL_ID = limits_of(ChatMessage, "tool_call_id")
CALL_ID = limits_of(ToolCall, "id")
ARGUMENTS = limits_of(FunctionCall, "arguments")

MAX_PIECES = 20_000
"""Content parts and tool calls of all messages together."""
# Of all parts together, which a limit of the proto cannot say.
MAX_PREDICTION_CHARS = SPECULATED_TEXT.max_length


def check_sizes(request: RequestMessage | TokenizeRequest) -> None:
    """Checks the sizes of a request's lists. Costs a look at each message, not at its contents.

    Raises:
        InvalidRequestError: some have too many items.
    """
    violations: list[FieldViolation] = []
    if isinstance(request, CreateCompletionRequest):
        violations += _prompt_size_violations(request.prompt)
    else:
        violations += _message_size_violations(request.messages)
        violations += check_max_items("tools", len(request.tools), TOOLS)
    if isinstance(request, CreateChatCompletionRequest):
        violations += _chat_size_violations(request)
    if not isinstance(request, TokenizeRequest):
        violations += check_max_items("logit_bias", len(request.logit_bias), BIASES)
        violations += check_max_items("metadata", len(request.metadata), METADATA)
    if violations:
        raise InvalidRequestError(violations)


def metadata_violations(request: RequestMessage) -> Violations:
    """Keys and values of metadata that are too long."""
    for key, value in request.metadata.items():
        path = f"metadata.{key[: METADATA.max_length]}"
        yield from check_length(path, max(key, value, key=len), METADATA)


def option_length_violations(request: CreateChatCompletionRequest) -> Violations:
    """Texts outside of messages that are too long. The context does not bound them."""
    yield from metadata_violations(request)
    yield from check_length("speculation", request.speculation.text, SPECULATED_TEXT)
    characters = _characters(request.prediction.content)
    if characters > MAX_PREDICTION_CHARS:
        text = f"Text should have at most {MAX_PREDICTION_CHARS} characters"
        yield FieldViolation("prediction.content", text)


def message_length_violations(messages: Sequence[ChatMessage]) -> Violations:
    """Texts in messages that are too long, and are not bounded by the context as content is."""
    for index, message in enumerate(messages):
        path = f"messages[{index}]"
        yield from check_length(f"{path}.tool_call_id", message.tool_call_id, TOOL_CALL_ID)
        for place, call in enumerate(message.tool_calls):
            field = f"{path}.tool_calls[{place}]"
            yield from check_length(f"{field}.id", call.id, CALL_ID)
            arguments = call.function.arguments
            yield from check_length(f"{field}.function.arguments", arguments, ARGUMENTS)


def _chat_size_violations(request: CreateChatCompletionRequest) -> Violations:
    yield from check_max_items("functions", len(request.functions), FUNCTIONS)
    tokens = len(request.speculation.token_ids.items)
    yield from check_max_items("speculation", tokens, SPECULATED_TOKENS)
    parts = len(request.prediction.content.parts.items)
    yield from check_max_items("prediction.content", parts, PARTS)


def _prompt_size_violations(prompt: CompletionPrompt) -> Violations:
    prompts = max(len(prompt.texts.items), len(prompt.token_lists.items))
    yield from check_max_items("prompt", prompts, PROMPTS)
    if prompt.WhichOneof("kind") == "token_ids":
        yield from check_max_items("prompt", len(prompt.token_ids.items), PROMPT_TOKENS)
    for index, tokens in enumerate(prompt.token_lists.items[: PROMPTS.max_items]):
        yield from check_max_items(f"prompt[{index}]", len(tokens.items), PROMPT_TOKENS)


def _message_size_violations(messages: Sequence[ChatMessage]) -> Violations:
    yield from check_max_items("messages", len(messages), MESSAGES)
    pieces = 0
    for index, message in enumerate(messages[: MESSAGES.max_items]):
        parts, calls = len(message.content.parts.items), len(message.tool_calls)
        if parts or calls:
            yield from check_max_items(f"messages[{index}].content", parts, PARTS)
            yield from check_max_items(f"messages[{index}].tool_calls", calls, TOOL_CALLS)
        pieces += parts + calls
    if pieces > MAX_PIECES:
        text = f"Messages should have at most {MAX_PIECES} parts and tool calls together"
        yield FieldViolation("messages", f"{text}, not {pieces}")


def _characters(content: ChatContent) -> int:
    return sum(len(part.text) for part in content.parts.items) + len(content.text)
