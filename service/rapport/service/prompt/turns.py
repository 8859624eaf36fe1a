"""Conversations in the form that chat templates take: turns with a role and a text, and tools."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rapport.service.tools import hermes_format
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
class Turn:
    """A message: its role and its whole text."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Conversation:
    """All parts of a prompt except for what the template adds."""

    turns: Sequence[Turn]
    tools: Sequence[JsonObject] = ()

    @property
    def length(self) -> int:
        """The number of characters."""
        tools = sum(len(json.dumps(tool, ensure_ascii=False)) for tool in self.tools)
        return tools + sum(len(turn.content) for turn in self.turns)

    def texts(self) -> Iterator[str]:
        """All texts that are from the request."""
        for turn in self.turns:
            yield turn.content
        yield from _texts_in(self.tools)

    def map_texts(self, change: Callable[[str], str]) -> Conversation:
        """The same conversation with `change` applied to every text."""
        turns = [replace(turn, content=change(turn.content)) for turn in self.turns]
        return Conversation(turns, [_map_strings(tool, change) for tool in self.tools])


def to_turn(message: ChatMessage) -> Turn:
    """The turn of a message. The model does not see names and earlier reasoning."""
    paragraphs = [content_text(message.content), *map(call_text, message.tool_calls)]
    return Turn(ROLES[message.role], "\n".join(filter(None, paragraphs)))


def content_text(content: ChatContent) -> str:
    """The text of a content. Parts are joined without a separator."""
    if content.WhichOneof("kind") == "parts":
        return "".join(part.text for part in content.parts.items)
    return content.text


def call_text(call: ToolCall) -> str:
    """A call as models write it."""
    return hermes_format.call(call.function.name, _as_json(call.function.arguments))


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
