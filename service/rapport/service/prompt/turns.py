"""Conversations in the form that chat templates take: turns with a role and a text, and tools."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rapport.service.errors import InvalidRequestError
from rapport.service.structured_output.strict_json import parse_json
from rapport.service.tools.call_format import HERMES, CallFormat
from rapport.v1.message_pb2 import ChatContent, ChatMessage, Role
from rapport.v1.tool_pb2 import ToolCall

JsonObject = dict[str, Any]

ROLES = {
    Role.ROLE_SYSTEM: "system",
    Role.ROLE_DEVELOPER: "system",
    Role.ROLE_USER: "user",
    Role.ROLE_ASSISTANT: "assistant",
    Role.ROLE_TOOL: "tool",
}


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a function. Its arguments are a JSON value, or text that is not JSON."""

    name: str
    arguments: Any
    id: str = ""


@dataclass(frozen=True, slots=True)
class Turn:
    """A message: its role, its whole text, and calls that the text does not have.

    The result of a call has its id.
    """

    role: str
    content: str
    calls: tuple[Call, ...] = ()
    call_id: str = ""


@dataclass(frozen=True, slots=True)
class Conversation:
    """All parts of a prompt except for what the template adds."""

    turns: Sequence[Turn]
    tools: Sequence[JsonObject] = ()

    @property
    def length(self) -> int:
        """The number of characters."""
        calls = [[call.name, call.arguments] for turn in self.turns for call in turn.calls]
        values = sum(len(json.dumps(each, ensure_ascii=False)) for each in (*self.tools, *calls))
        return values + sum(len(turn.content) for turn in self.turns)

    def texts(self) -> Iterator[str]:
        """All texts that are from the request."""
        for turn in self.turns:
            yield from (turn.content, turn.call_id)
            for call in turn.calls:
                yield from _texts_in([call.name, call.arguments, call.id])
        yield from _texts_in(self.tools)

    def map_texts(self, change: Callable[[str], str]) -> Conversation:
        """The same conversation with `change` applied to every text."""

        def changed(turn: Turn) -> Turn:
            calls = [
                Call(change(call.name), _map_strings(call.arguments, change), change(call.id))
                for call in turn.calls
            ]
            return Turn(turn.role, change(turn.content), tuple(calls), change(turn.call_id))

        turns = list(map(changed, self.turns))
        return Conversation(turns, [_map_strings(tool, change) for tool in self.tools])


def to_turn(message: ChatMessage, written: CallFormat | None = HERMES) -> Turn:
    """The turn of a message. The model does not see names and earlier reasoning.

    With a format, its text has the calls as models write them in it.
    """
    role, text = ROLES[message.role], content_text(message.content)
    if written is not None:
        paragraphs = [text, calls_text(message.tool_calls, written)]
        return Turn(role, "\n".join(filter(None, paragraphs)), call_id=message.tool_call_id)
    calls = tuple(
        Call(call.function.name, _value_of(call.function.arguments), call.id)
        for call in message.tool_calls
    )
    return Turn(role, text, calls, message.tool_call_id)


def content_text(content: ChatContent) -> str:
    """The text of a content. Parts are joined without a separator."""
    if content.WhichOneof("kind") == "parts":
        return "".join(part.text for part in content.parts.items)
    return content.text


def calls_text(calls: Sequence[ToolCall], form: CallFormat = HERMES) -> str:
    """Calls as models write them; nothing if there are none."""
    functions = (call.function for call in calls)
    texts = [(each.name, _as_json(each.arguments)) for each in functions]
    return form.write(texts) if texts else ""


def _value_of(arguments: str) -> Any:
    """The value of JSON text. Any other text is itself, as is JSON nested too deeply."""
    try:
        return parse_json(arguments, "arguments")
    except InvalidRequestError:
        return arguments


def _as_json(text: str) -> str:
    """The text itself if it is JSON, or else a JSON string of it, so that nothing is lost."""
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return json.dumps(text, ensure_ascii=False)
    return text


def _texts_in(value: Any) -> Iterator[str]:
    """All strings in a JSON value, including keys."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from value
        yield from _texts_in(list(value.values()))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts_in(item)


def _map_strings(value: Any, change: Callable[[str], str]) -> Any:
    """A JSON value with `change` applied to every string in it."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {change(key): _map_strings(item, change) for key, item in value.items()}
    return [_map_strings(item, change) for item in value] if isinstance(value, list) else value
