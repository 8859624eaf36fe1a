"""Messages as the chat template takes them: a role and one text."""

from __future__ import annotations

import json
from dataclasses import dataclass

from rapport.v1.message_pb2 import ChatContent, ChatMessage, Role
from rapport.v1.tool_pb2 import ToolCall

ROLES = {
    Role.ROLE_SYSTEM: "system",
    Role.ROLE_DEVELOPER: "system",
    Role.ROLE_USER: "user",
    Role.ROLE_ASSISTANT: "assistant",
    Role.ROLE_TOOL: "tool",
}


@dataclass(frozen=True, slots=True)
class Turn:
    """Who speaks and all that is said."""

    role: str
    content: str


def turn_of(message: ChatMessage) -> Turn:
    """The turn that a message is. Names and earlier reasoning are not shown to the model."""
    said = text_of(message.content)
    paragraphs = [said, *map(call_text, message.tool_calls)]
    return Turn(ROLES[message.role], "\n".join(filter(None, paragraphs)))


def text_of(content: ChatContent) -> str:
    """The text of a content; parts follow each other without anything between."""
    if content.WhichOneof("kind") == "parts":
        return "".join(part.text for part in content.parts.items)
    return content.text


def call_text(call: ToolCall) -> str:
    """A call as models that call tools write it: a JSON object between tags."""
    name = json.dumps(call.function.name, ensure_ascii=False)
    arguments = json_text(call.function.arguments)
    return f'<tool_call>\n{{"name": {name}, "arguments": {arguments}}}\n</tool_call>'


def json_text(text: str) -> str:
    """The text itself where it is JSON, else as a JSON string, so that nothing is lost."""
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return json.dumps(text, ensure_ascii=False)
    return text
