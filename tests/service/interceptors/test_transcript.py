from __future__ import annotations

from collections import UserList
from typing import Any

import pytest

from rapport.service.engine.request import Delta
from rapport.service.interceptors.transcript import ELLIPSIS, MAX_CHARS, Transcript
from rapport.v1.chat_pb2 import FinishReason
from rapport.v1.message_pb2 import ChatContent, ChatMessage, Role

LONG = "x" * MAX_CHARS


def message(text: str, role: Role.ValueType = Role.ROLE_USER) -> ChatMessage:
    return ChatMessage(role=role, content=ChatContent(text=text))


@pytest.fixture
def kept() -> Transcript:
    transcript = Transcript()
    transcript.keep([message("be kind", Role.ROLE_SYSTEM), message("hello")])
    return transcript


def test_nothing_is_kept_unless_asked_for() -> None:
    """Of what is said, only why it ended is known."""
    transcript = Transcript()
    transcript.add(Delta(0, "secret", [1]))
    transcript.end(0, FinishReason.FINISH_REASON_TOOL_CALLS)
    assert transcript.finish_reasons == {0: "tool_calls"}
    assert (transcript.messages, transcript.texts) == (None, None)


def test_kept(kept: Transcript) -> None:
    """Messages are kept with their roles, answers by their choices."""
    for delta in (Delta(1, "b", [1]), Delta(0, "a", [1]), Delta(1, "c", [1])):
        kept.add(delta)
    assert kept.messages == [
        {"role": "system", "content": "be kind"},
        {"role": "user", "content": "hello"},
    ]
    assert kept.texts == ["a", "bc"]


def test_last_messages_are_kept() -> None:
    """Of a long conversation the end is kept, up to a bound."""
    transcript = Transcript()
    transcript.keep([message("lost"), message(LONG), message("end")])
    assert transcript.messages == [
        {"role": "user", "content": LONG[3:] + ELLIPSIS},
        {"role": "user", "content": "end"},
    ]


def test_empty_messages_are_bounded() -> None:
    """A message without text takes room, too, and those that find none are not looked at."""
    given = Watched([message("lost"), *[message("")] * (2 * MAX_CHARS), message("end")])
    transcript = Transcript()
    transcript.keep(given)
    empty = {"role": "user", "content": ""}
    assert transcript.messages == [*[empty] * (MAX_CHARS - 3), {**empty, "content": "end"}]
    assert given.looks == len(transcript.messages)


class Watched(UserList[ChatMessage]):
    """Counts how often one of its messages is looked at."""

    looks = 0

    def __getitem__(self, place: Any) -> Any:
        self.looks += 1
        return super().__getitem__(place)


def test_answers_are_bounded(kept: Transcript) -> None:
    """All choices share one bound."""
    for index in (0, 1, 2):
        kept.add(Delta(index, LONG[1:], [1]))
    assert kept.texts == [LONG[1:], "x" + ELLIPSIS]


def test_unknown_role() -> None:
    """A role of a newer proto is reported by its number."""
    transcript = Transcript()
    transcript.keep([message("a", 77)])  # type: ignore[arg-type]
    assert transcript.messages == [{"role": "77", "content": "a"}]
