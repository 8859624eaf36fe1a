from __future__ import annotations

from collections.abc import Iterable, Iterator
from types import SimpleNamespace
from typing import Any

from rapport.service.engine.request import Delta
from rapport.service.engine.sampling.logprobs import TokenLogprob
from rapport.service.request.options import LogprobsOptions, OutputOptions
from rapport.service.response.choices import (
    MAX_ECHOED_LOGPROBS,
    ChoiceWriter,
    Echo,
    RawOutputWriter,
    TextWriter,
)
from rapport.service.response.logprobs import logprobs_writer
from rapport.v1.chat_pb2 import ChoiceDelta, FinishReason, MessageDelta
from rapport.v1.message_pb2 import Role
from rapport.v1.tool_pb2 import FunctionCallDelta, ToolCallDelta, ToolType
from tests.service.engine.fake import byte_vocabulary
from tests.service.fakes import ends, says
from tests.service.joining import joined

OUTPUT = OutputOptions(
    echo=True, echo_last=0, token_ids=False, perf_metrics=False, separate_usage=False
)


class LateWriter(TextWriter):
    """Holds everything back until the end."""

    def __init__(self) -> None:
        self._held = ""

    def push(self, text: str) -> Iterator[MessageDelta]:
        self._held += text
        return iter(())

    def end(self) -> Iterator[MessageDelta]:
        yield MessageDelta(content=self._held)


def written(writer: ChoiceWriter, *deltas: Delta) -> list[ChoiceDelta]:
    return [*writer.open(), *(piece for delta in deltas for piece in writer.write(delta))]


def spelled(tokens: Iterable[int]) -> str:
    return "".join(f"<{token}>" for token in tokens)


def echo(text: str, logprobs: LogprobsOptions | None = None) -> Echo:
    """What repeats a prompt, each byte of which is a token."""
    request: Any = SimpleNamespace(output=OUTPUT, logprobs=logprobs)
    return Echo(request, tuple(text.encode()), byte_vocabulary())


def contents(pieces: list[ChoiceDelta]) -> list[str]:
    return [piece.delta.content for piece in pieces]


def test_role_then_text_then_reason() -> None:
    """A choice opens with its role, goes on with text, and ends with an empty delta."""
    pieces = written(ChoiceWriter(3, TextWriter()), says(3, "A"), ends(3, "b"))
    assert {piece.index for piece in pieces} == {3}
    assert pieces[0].delta == MessageDelta(role=Role.ROLE_ASSISTANT)
    assert contents(pieces) == ["", "A", "b", ""]
    assert pieces[-1].delta == MessageDelta()
    assert pieces[-1].finish_reason == FinishReason.FINISH_REASON_STOP


def test_echo_comes_before_the_models_text() -> None:
    """The prompt's text is a piece of its own between the role and the model's text."""
    pieces = written(ChoiceWriter(0, TextWriter(), echo=echo("Q: ")), says(0, "A"), ends(0))
    assert contents(pieces) == ["", "Q: ", "A", ""]
    assert joined(0, pieces).message.content == "Q: A"


def test_echoed_tokens_have_log_probabilities() -> None:
    """A long prompt has them in several pieces, of which the first has its text."""
    count = 2 * MAX_ECHOED_LOGPROBS
    options = LogprobsOptions(0)
    writer = ChoiceWriter(
        0,
        TextWriter(),
        echo=echo("x" * count, options),
        logprobs=logprobs_writer(options, byte_vocabulary().token_bytes),
    )
    scored = [TokenLogprob(ord("x"), -float(place), ()) for place in range(1, count)]
    role, *pieces = writer.open(scored)
    assert contents([role, *pieces]) == ["", "x" * count, ""]
    pieces += writer.write(Delta(0, "A", [65], None, [TokenLogprob(65, -0.5, ())]))
    found = joined(0, [role, *pieces]).logprobs.present.content
    assert [each.HasField("logprob") for each in found] == [False] + [True] * count
    assert [each.logprob for each in found[1:-1]] == [each.logprob for each in scored]
    assert [each.text_offset for each in found] == list(range(count + 1))


def test_tokens_of_held_text_come_with_the_next_piece() -> None:
    """Token ids are never lost, also of text that is held back, and the end token is there."""
    writer = ChoiceWriter(0, LateWriter(), with_tokens=True)
    pieces = written(writer, says(0, "a", tokens=2), says(0, "b"), ends(0))
    assert [list(piece.token_ids) for piece in pieces] == [[], [7, 7, 7, 2], []]
    assert list(joined(0, pieces).token_ids) == [7, 7, 7, 2]


def test_raw_output_is_on_the_last_piece() -> None:
    """What the model saw and said comes once it is complete."""
    writer = ChoiceWriter(0, TextWriter(), raw_output=RawOutputWriter((1, 5), spelled, "root"))
    pieces = written(writer, says(0, "a"), ends(0))
    assert [piece.HasField("raw_output") for piece in pieces] == [False, False, True]
    raw = joined(0, pieces).raw_output
    assert list(raw.prompt_fragments) == ["<1><5>"]
    assert list(raw.prompt_token_ids) == [1, 5]
    assert (raw.completion, list(raw.completion_token_ids)) == ("<7><2>", [7, 2])
    assert raw.grammar == "root"


def call(index: int, **function: Any) -> ChoiceDelta:
    first = (
        {"id": f"call_{index}", "type": ToolType.TOOL_TYPE_FUNCTION} if "name" in function else {}
    )
    fragment = ToolCallDelta(index=index, function=FunctionCallDelta(**function), **first)
    return ChoiceDelta(delta=MessageDelta(tool_calls=[fragment]))


def test_fragments_join_to_calls() -> None:
    """Ids and names come once, arguments in fragments; a choice of calls alone has no text."""
    choice = joined(
        0,
        [
            call(0, name="f", arguments=""),
            call(0, arguments='{"a":'),
            call(0, arguments="1}"),
            call(1, name="g", arguments="{}"),
            ChoiceDelta(finish_reason=FinishReason.FINISH_REASON_TOOL_CALLS),
        ],
    )
    assert not choice.message.HasField("content")
    calls = [
        (c.index, c.id, c.function.name, c.function.arguments) for c in choice.message.tool_calls
    ]
    assert calls == [(0, "call_0", "f", '{"a":1}'), (1, "call_1", "g", "{}")]
    assert {c.type for c in choice.message.tool_calls} == {ToolType.TOOL_TYPE_FUNCTION}
