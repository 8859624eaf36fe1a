"""Writes text that may call tools as the deltas of a message."""

from __future__ import annotations

import secrets
import string
from collections.abc import Iterable, Iterator

from rapport.service.tools.tool_call_parser import (
    ArgumentsDelta,
    CallStart,
    ParserEvent,
    TextDelta,
    ToolCallParser,
)
from rapport.service.tools.tool_choice import ToolPolicy
from rapport.v1.chat_pb2 import FinishReason, MessageDelta
from rapport.v1.tool_pb2 import FunctionCallDelta, ToolCallDelta, ToolType

ID_LETTERS = string.ascii_letters + string.digits
ID_LENGTH = 24


class ToolCallWriter:
    """Writes text as content and tool calls.

    The finish reason is `tool_calls` if there are calls and all are complete. If the text ends
    within the arguments of a call, the finish reason is that of the text, and the call has the
    arguments generated so far. If the text ends before the arguments, it is no call: the markup
    is written as content, or dropped where calls are forced.
    """

    def __init__(self, tools: ToolPolicy) -> None:
        names = (function.name for function in tools.allowed)
        self._parser = ToolCallParser(names, tools.format)
        self._forced = tools.forced

    def push(self, text: str) -> Iterator[MessageDelta]:
        return self._deltas(self._parser.push(text))

    def end(self) -> Iterator[MessageDelta]:
        rest = self._parser.end()
        return self._deltas(
            event for event in rest if not (self._forced and isinstance(event, TextDelta))
        )

    def finish_reason(self, reason: FinishReason.ValueType) -> FinishReason.ValueType:
        complete = self._parser.calls and not self._parser.in_arguments
        return FinishReason.FINISH_REASON_TOOL_CALLS if complete else reason

    def _deltas(self, events: Iterable[ParserEvent]) -> Iterator[MessageDelta]:
        for event in events:
            match event:
                case TextDelta(text):
                    yield MessageDelta(content=text)
                case CallStart(name):
                    yield MessageDelta(tool_calls=[self._first_fragment(name)])
                case ArgumentsDelta(text):
                    yield MessageDelta(tool_calls=[self._fragment(text)])

    def _first_fragment(self, name: str) -> ToolCallDelta:
        return ToolCallDelta(
            index=self._parser.calls - 1,
            id=new_call_id(),
            type=ToolType.TOOL_TYPE_FUNCTION,
            function=FunctionCallDelta(name=name, arguments=""),
        )

    def _fragment(self, text: str) -> ToolCallDelta:
        function = FunctionCallDelta(arguments=text)
        return ToolCallDelta(index=self._parser.calls - 1, function=function)


def new_call_id() -> str:
    """A random id for a call."""
    return "call_" + "".join(secrets.choice(ID_LETTERS) for _ in range(ID_LENGTH))
