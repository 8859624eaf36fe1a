from __future__ import annotations

import re
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rapport.service.engine.request import Delta
from rapport.service.engine.request import FinishReason as EngineReason
from rapport.service.response.choices import ChoiceWriter
from rapport.service.response.tool_call_writer import ToolCallWriter, new_call_id
from rapport.service.tools.call_format import HERMES
from rapport.service.tools.tool_choice import NO_PARAMETERS, Function, ToolPolicy
from rapport.v1.chat_pb2 import Choice, ChoiceDelta, FinishReason, MessageDelta
from rapport.v1.tool_pb2 import ToolType
from tests.service.joining import joined
from tests.service.tools.calls import hermes_call

TOOLS = tuple(Function(name, NO_PARAMETERS, "tools") for name in ("f", "g"))
STOP = FinishReason.FINISH_REASON_STOP
LENGTH = FinishReason.FINISH_REASON_LENGTH
CALLS = FinishReason.FINISH_REASON_TOOL_CALLS
F = hermes_call("f", '{"x": "y"}')


def pieces(
    *texts: str, forced: bool = False, reason: EngineReason = EngineReason.STOP
) -> list[ChoiceDelta]:
    writer = ChoiceWriter(0, ToolCallWriter(ToolPolicy(TOOLS, forced=forced)))
    deltas = [Delta(0, text, [1]) for text in texts]
    deltas.append(Delta(0, "", [2], reason))
    return [*writer.open(), *(piece for delta in deltas for piece in writer.write(delta))]


def choice(*texts: str, forced: bool = False, reason: EngineReason = EngineReason.STOP) -> Choice:
    return joined(0, pieces(*texts, forced=forced, reason=reason))


def calls(choice: Choice) -> list[tuple[int, str, str]]:
    return [
        (call.index, call.function.name, call.function.arguments)
        for call in choice.message.tool_calls
    ]


def test_stream_of_a_call() -> None:
    """Id, type and name come once, then fragments of arguments, then the reason by itself."""
    role, begin, *fragments, last = pieces(*F)
    assert role.delta.role
    (header,) = begin.delta.tool_calls
    assert header.id.startswith("call_")
    assert header.type == ToolType.TOOL_TYPE_FUNCTION
    assert (header.function.name, header.function.arguments) == ("f", "")
    assert header.function.HasField("arguments")
    for fragment in fragments:
        (added,) = fragment.delta.tool_calls
        assert (added.index, added.id, added.type, added.function.name) == (0, "", 0, "")
        assert not added.function.HasField("name")
        assert len(added.function.arguments) == 1
    assert (last.finish_reason, last.delta) == (CALLS, MessageDelta())


def test_calls_only() -> None:
    """An answer that is nothing but calls has no content."""
    whole = choice(F + "\n" + hermes_call("g", "{}"))
    assert calls(whole) == [(0, "f", '{"x": "y"}'), (1, "g", "{}")]
    assert not whole.message.HasField("content")
    assert whole.finish_reason == CALLS
    assert len({call.id for call in whole.message.tool_calls}) == 2


def test_text_and_call() -> None:
    """Text before a call is content."""
    whole = choice("Let me see.\n" + F)
    assert (whole.message.content, len(whole.message.tool_calls)) == ("Let me see.", 1)


@pytest.mark.parametrize("reason", [EngineReason.STOP, EngineReason.LENGTH])
def test_text(reason: EngineReason) -> None:
    """An answer without a call ends for the reason why its text did."""
    whole = choice("Hello <b>", reason=reason)
    assert whole.message.content == "Hello <b>"
    assert whole.finish_reason == {EngineReason.STOP: STOP, EngineReason.LENGTH: LENGTH}[reason]


@pytest.mark.parametrize("forced", [True, False])
def test_cut_arguments(forced: bool) -> None:
    """Arguments that were cut stand as far as they came, and the answer ends for its length."""
    whole = choice(F[:-20], forced=forced, reason=EngineReason.LENGTH)
    assert calls(whole) == [(0, "f", F[:-20].partition('arguments": ')[2])]
    assert whole.finish_reason == LENGTH


def test_cut_tail() -> None:
    """A call whose arguments are complete came, though its tag was cut."""
    whole = choice(F[:-5], reason=EngineReason.LENGTH)
    assert (calls(whole), whole.finish_reason) == ([(0, "f", '{"x": "y"}')], CALLS)


@pytest.mark.parametrize("length", [3, 11, 20, 30])
def test_cut_beginning(length: int) -> None:
    """A call cut before its arguments is text, or where calls are forced, nothing."""
    whole = choice(F[:length], reason=EngineReason.LENGTH)
    assert (whole.message.content, whole.finish_reason) == (F[:length], LENGTH)
    whole = choice(F[:length], forced=True, reason=EngineReason.LENGTH)
    assert (whole.message.content, whole.finish_reason) == ("", LENGTH)
    assert not whole.message.tool_calls


def test_only_what_may_be_called() -> None:
    """With a named function, another one's call is text."""
    writer = ToolCallWriter(ToolPolicy(TOOLS, named="g"))
    messages: Iterable[MessageDelta] = [*writer.push(F), *writer.end()]
    assert "".join(message.content for message in messages) == F
    assert writer.finish_reason(STOP) == STOP


@given(st.lists(st.sampled_from([F, *F, "<", "tool_call>", "Hi", "\n", HERMES.marker])))
def test_cutting_makes_no_difference(texts: list[str]) -> None:
    """However the text comes, the joined answer is the same but for the ids."""
    one, other = choice(*texts), choice("".join(texts))
    for call in (*one.message.tool_calls, *other.message.tool_calls):
        call.id = ""
    one.ClearField("token_ids")
    assert one == other


def test_ids() -> None:
    """Ids have the form that clients know, and are not repeated."""
    assert re.fullmatch(r"call_[A-Za-z0-9]{24}", new_call_id())
    assert len({new_call_id() for _ in range(1000)}) == 1000
