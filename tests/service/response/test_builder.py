from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rapport.service.engine.generation import Generation
from rapport.service.engine.request import Delta, FinishReason, GenerationRequest
from rapport.service.engine.sampling.logprobs import TokenLogprob
from rapport.service.response.answer_builder import MAX_TOKENS_PER_TURN
from rapport.service.response.builder import ResponseBuilder
from rapport.service.response.choices import ChoiceWriter, TextWriter
from rapport.service.response.logprobs import CurrentLogprobsWriter
from rapport.v1.chat_pb2 import ChoiceDelta, MessageDelta, StreamChatCompletionResponse
from rapport.v1.chat_pb2 import FinishReason as Wire
from rapport.v1.message_pb2 import Role
from tests.service.engine.fake import byte_vocabulary
from tests.service.fakes import ends, says
from tests.service.joining import joined

Pieces = list[StreamChatCompletionResponse]


def answer(n: int = 1, **options: Any) -> ResponseBuilder:
    return ResponseBuilder(
        model="m", writers=[ChoiceWriter(index, TextWriter()) for index in range(n)], **options
    )


def generated(*deltas: Delta, n: int = 1) -> Generation:
    generation = Generation(GenerationRequest((1, 2, 3), 10, n=n), lambda _: None)
    generation.cached_tokens = 2
    for delta in deltas:
        generation.add(Delta(delta.index, delta.text, delta.token_ids, delta.finish_reason))
    return generation


async def pieces(generation: Generation, *, separate_usage: bool = False) -> Pieces:
    builder = answer(generation.request.n, separate_usage=separate_usage)
    return [piece async for piece in builder.stream(generation)]


class Script:
    """A generation whose deltas come one by one, as they do when nobody lags."""

    def __init__(self, *deltas: Delta, n: int = 1) -> None:
        self.deltas = deltas
        self.request = GenerationRequest((1, 2, 3), 10, n=n)
        self.prompt_tokens = 3
        self.completion_tokens = sum(len(delta.token_ids) for delta in deltas)
        self.cached_tokens = 2
        self.submitted_at = time.monotonic()
        self.started_at = self.submitted_at + 1
        self.first_token_at = self.started_at + 2
        self.last_token_at = self.first_token_at + 3
        self.drafted_tokens, self.accepted_tokens = 4, 1

    def prompt_logprobs_of(self, _place: int) -> list[TokenLogprob]:
        return []

    async def __aiter__(self):  # type: ignore[no-untyped-def]  # noqa: ANN204
        for delta in self.deltas:
            yield delta


def script(*deltas: Delta, n: int = 1) -> Generation:
    return Script(*deltas, n=n)  # type: ignore[return-value]


async def test_whole() -> None:
    """The answer in one message has all texts, reasons and the usage."""
    two = answer(2)
    whole = await two.build(
        generated(says(1, "B"), says(0, "A"), ends(1, "b", FinishReason.LENGTH), ends(0), n=2)
    )
    assert (whole.id, whole.created, whole.model) == (two.id, two.created, "m")
    assert whole.object == "chat.completion"
    assert [choice.index for choice in whole.choices] == [0, 1]
    assert [choice.message.content for choice in whole.choices] == ["A", "Bb"]
    assert [choice.message.role for choice in whole.choices] == [Role.ROLE_ASSISTANT] * 2
    assert [choice.finish_reason for choice in whole.choices] == [
        Wire.FINISH_REASON_STOP,
        Wire.FINISH_REASON_LENGTH,
    ]
    usage = whole.usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (3, 4, 7)
    assert usage.prompt_tokens_details.cached_tokens == 2


async def test_an_empty_answer_has_content() -> None:
    """An answer without text has an empty text, not none."""
    whole = await answer().build(generated(ends(0)))
    assert whole.choices[0].message.HasField("content")


async def test_order_of_pieces() -> None:
    """Roles come first, one choice a piece, then texts, then reasons; nothing is empty."""
    chunks = await pieces(
        script(says(0, "A"), says(1, ""), says(1, "B"), ends(0, "a"), ends(1), n=2)
    )
    assert [len(piece.choices) for piece in chunks] == [1] * len(chunks)
    choices = [piece.choices[0] for piece in chunks]
    assert [(c.index, c.delta.role, c.delta.content, c.finish_reason) for c in choices] == [
        (0, Role.ROLE_ASSISTANT, "", 0),
        (1, Role.ROLE_ASSISTANT, "", 0),
        (0, 0, "A", 0),
        (1, 0, "B", 0),
        (0, 0, "a", 0),
        (0, 0, "", Wire.FINISH_REASON_STOP),
        (1, 0, "", Wire.FINISH_REASON_STOP),
    ]
    assert not any(c.delta.HasField("content") for c in choices if not c.delta.content)


async def test_pieces_belong_together() -> None:
    """Id, object, time and model are the same on all pieces."""
    chunks = await pieces(script(says(0, "A"), ends(0)), separate_usage=True)
    assert len({(p.id, p.object, p.created, p.model) for p in chunks}) == 1
    assert chunks[0].object == "chat.completion.chunk"


@pytest.mark.parametrize("n", [1, 3])
async def test_usage_rides_on_the_last_piece(n: int) -> None:
    """Usage is on the globally last finish reason's piece, and on no other."""
    chunks = await pieces(script(*(ends(index) for index in range(n)), n=n))
    assert [piece.HasField("usage") for piece in chunks] == [False] * (len(chunks) - 1) + [True]
    assert chunks[-1].usage.completion_tokens == n


async def test_separate_usage() -> None:
    """Usage that was asked for has a piece of its own, and no other piece has it."""
    chunks = await pieces(script(says(0, "A"), ends(0)), separate_usage=True)
    assert [piece.HasField("usage") for piece in chunks] == [False, False, False, True]
    assert not chunks[-1].choices
    assert chunks[-2].choices[0].finish_reason == Wire.FINISH_REASON_STOP


@given(st.lists(st.tuples(st.integers(0, 2), st.text(max_size=3)), max_size=20))
async def test_joined_pieces_are_the_whole(said: list[tuple[int, str]]) -> None:
    """Joined, the deltas of the stream are the answer in one message."""
    deltas = [says(index, text) for index, text in said] + [ends(index) for index in range(3)]
    texts: dict[int, str] = defaultdict(str)
    for piece in await pieces(script(*deltas, n=3)):
        texts[piece.choices[0].index] += piece.choices[0].delta.content
    whole = await answer(3).build(generated(*deltas, n=3))
    assert [texts[c.index] for c in whole.choices] == [c.message.content for c in whole.choices]


class CountedPiece:
    """A piece that notes each question for its choice."""

    def __init__(self, piece: ChoiceDelta, asked: list[int]) -> None:
        self._piece = piece
        self._asked = asked

    @property
    def index(self) -> int:
        self._asked.append(self._piece.index)
        return self._piece.index

    def __getattr__(self, name: str) -> Any:
        return getattr(self._piece, name)


class CountingWriter(ChoiceWriter):
    """Writes counted pieces."""

    def __init__(self, index: int, asked: list[int]) -> None:
        super().__init__(index, TextWriter())
        self._asked = asked

    def _piece(self, message: MessageDelta) -> Any:
        return CountedPiece(super()._piece(message), self._asked)


async def test_a_whole_answer_is_put_together_in_one_pass() -> None:
    """A piece is looked at a few times at most, however many choices there are."""
    n, said = 50, 4
    deltas = [says(index, "a") for index in range(n) for _ in range(said)]
    asked: list[int] = []
    many = ResponseBuilder("m", [CountingWriter(index, asked) for index in range(n)])
    whole = await many.build(script(*deltas, *(ends(index) for index in range(n)), n=n))
    assert [choice.message.content for choice in whole.choices] == ["a" * said] * n
    pieces = n * (1 + said + 1)
    assert len(asked) <= 3 * pieces


async def test_others_have_their_turn_while_an_answer_is_put_together() -> None:
    """What has gathered for a whole answer is not put together in one go."""
    deltas = [says(index, "a", tokens=MAX_TOKENS_PER_TURN) for index in range(9)]
    gathered = generated(*deltas, *(ends(index) for index in range(9)), n=9)
    whole = asyncio.create_task(answer(9).build(gathered))
    turns = 0
    while not whole.done():
        turns += 1
        await asyncio.sleep(0)
    assert turns > 9


def rich_answer() -> ResponseBuilder:
    vocabulary = byte_vocabulary()
    writers = [
        ChoiceWriter(
            index,
            TextWriter(),
            with_tokens=True,
            logprobs=CurrentLogprobsWriter(vocabulary.token_bytes),
        )
        for index in range(2)
    ]
    return ResponseBuilder("m", writers)


def rich(index: int, token: int, reason: FinishReason | None = None) -> Delta:
    return Delta(index, chr(token), [token], reason, [TokenLogprob(token, -0.5, ((token, -0.5),))])


@given(st.lists(st.tuples(st.integers(0, 1), st.sampled_from(b"abc"), st.booleans()), max_size=20))
async def test_a_lagging_reader_is_told_the_same(said: list[tuple[int, int, bool]]) -> None:
    """However deltas gather between reads, they make the same choices."""
    ends = [(index, ord("z"), False) for index in range(2)]
    deltas = [
        rich(index, token, FinishReason.LENGTH if token == ord("z") else None)
        for index, token, _ in said + ends
    ]
    expected = await choices_of(rich_answer(), script(*deltas, n=2))
    generation = Generation(GenerationRequest((1,), 99, n=2), lambda _: None)
    lagging = asyncio.create_task(choices_of(rich_answer(), generation))
    for delta, (_, _, reads) in zip(deepcopy(deltas), said + ends, strict=True):
        generation.add(delta)
        if reads:
            await asyncio.sleep(0)
    chunks = await lagging
    assert [joined(index, chunks) for index in range(2)] == [
        joined(index, expected) for index in range(2)
    ]
    for index in range(2):
        reasons = [piece.finish_reason != 0 for piece in chunks if piece.index == index]
        assert reasons == [False] * (len(reasons) - 1) + [True]


async def choices_of(answer: ResponseBuilder, generation: Generation) -> list[ChoiceDelta]:
    chunks = answer.stream(generation)
    return [piece.choices[0] async for piece in chunks]


async def test_what_was_asked_for_beside_the_choices() -> None:
    """Token ids of the prompt come once and first, metrics with the usage."""
    writer = ChoiceWriter(0, TextWriter(), prompt=(1, 2, 3))
    builder = ResponseBuilder(model="m", writers=[writer], with_metrics=True)
    chunks = builder.stream(script(says(0, "A"), ends(0)))
    pieces = [piece async for piece in chunks]
    assert [list(piece.prompt_token_ids) for piece in pieces] == [[1, 2, 3], [], []]
    assert list(pieces[0].choices[0].prompt_token_ids) == [1, 2, 3]
    assert [piece.HasField("perf_metrics") for piece in pieces] == [False, False, True]
    writers = [ChoiceWriter(0, TextWriter(), prompt=(1, 2, 3))]
    answered = ResponseBuilder(model="m", writers=writers, with_metrics=True)
    whole = await answered.build(generated(says(0, "A"), ends(0)))
    assert list(whole.prompt_token_ids) == [1, 2, 3]
    metrics = whole.perf_metrics
    assert (metrics.prompt_tokens, metrics.cached_prompt_tokens) == (3, 2)
    assert not metrics.HasField("speculation_acceptance")
    assert pieces[-1].perf_metrics.speculation_acceptance == 0.25
    assert 0 < metrics.server_time_to_first_token <= metrics.server_processing_time
    assert not metrics.HasField("prefill_queue_duration")
    streamed = pieces[-1].perf_metrics
    assert streamed.prefill_queue_duration == pytest.approx(1)
    assert streamed.prefill_duration == pytest.approx(2)
    assert streamed.generation_duration == pytest.approx(3)


async def test_nothing_is_said_that_was_not_asked_for() -> None:
    """Without being asked, an answer has no token ids, no metrics and no logprobs."""
    whole = await answer().build(generated(says(0, "A"), ends(0)))
    assert not whole.prompt_token_ids
    assert not whole.HasField("perf_metrics")
    (choice,) = whole.choices
    assert not choice.token_ids
    assert not choice.HasField("logprobs")
    assert not choice.HasField("raw_output")
