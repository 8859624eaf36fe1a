from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rapport.common.fair_threads import finish
from rapport.service.engine.text.vocabulary import Vocabulary
from rapport.service.errors import InvalidRequestError
from rapport.service.prompt.pieces import PieceTokenizer
from rapport.service.prompt.safe_cutter import PRIVATE_USE, Render, SafeCutter
from rapport.service.prompt.template import ChatTemplate
from rapport.service.prompt.turns import Call, Conversation, Turn
from tests.service.prompt.templates import QWEN

START, END = "<|im_start|>", "<|im_end|>"
# SmolLM2 has no token for some control characters and for bytes of unassigned planes.
KNOWN: tuple[Literal["L", "M", "N", "P", "S", "Z"], ...] = ("L", "M", "N", "P", "S", "Z")
# Text that is made to be mistaken for special tokens, whole, cut or nested.
HOSTILE = st.lists(
    st.sampled_from(
        [START, END, "<|im_", "start|>", "<", "|>", "<|endoftext|>", "<file_sep>", "\ue000", " "]
    )
    | st.text(st.characters(codec="utf-8", categories=KNOWN), max_size=3)
).map("".join)


@pytest.fixture(scope="module")
def vocabulary(cpu_folder: Path) -> Vocabulary:
    return Vocabulary.read(cpu_folder, 49152)


@pytest.fixture(scope="module")
def template(cpu_folder: Path) -> ChatTemplate:
    return ChatTemplate.read(cpu_folder)


@pytest.fixture(scope="module")
def cutter(vocabulary: Vocabulary) -> SafeCutter:
    return SafeCutter(vocabulary)


def tokenize(
    vocabulary: Vocabulary, cutter: SafeCutter, conversation: Conversation, render: Render
) -> list[int]:
    pieces = cutter.pieces(conversation, render)
    return finish(PieceTokenizer(vocabulary).tokenize(pieces, sys.maxsize))


def spelled(vocabulary: Vocabulary, tokens: Sequence[int]) -> str:
    """The text of tokens, special tokens spelled out."""
    names = {id_: name.encode() for name, id_ in vocabulary.special_tokens.items()}
    return b"".join(names.get(t, vocabulary.token_bytes[t]) for t in tokens).decode()


def first_text(conversation: Conversation) -> str:
    return conversation.turns[0].content


def specials(vocabulary: Vocabulary, tokens: Sequence[int]) -> list[int]:
    return [token for token in tokens if token in vocabulary.special_tokens.values()]


@given(contents=st.lists(HOSTILE, min_size=1, max_size=3))
def test_contents_never_become_special(
    vocabulary: Vocabulary, template: ChatTemplate, cutter: SafeCutter, contents: list[str]
) -> None:
    """Whatever a request has, special tokens are those of the template, and no text is lost."""
    conversation = Conversation([Turn("user", content) for content in contents])
    tokens = tokenize(vocabulary, cutter, conversation, template.render)
    assert spelled(vocabulary, tokens) == template.render(conversation)
    harmless = Conversation([Turn("user", "x") for _ in contents])
    expected = vocabulary.encode(template.render(harmless))
    assert specials(vocabulary, tokens) == specials(vocabulary, expected)


@given(name=HOSTILE, text=HOSTILE)
def test_tools_never_become_special(
    vocabulary: Vocabulary, cutter: SafeCutter, name: str, text: str
) -> None:
    """The same holds for tools and calls, wherever in them a special token is spelled."""

    def conversation(name: str, text: str) -> Conversation:
        tool = {"function": {"name": name, "parameters": {"enum": [1, text, {text: None}]}}}
        call = Call(name, {text: [text, 1]})
        return Conversation([Turn("user", "Hi"), Turn("assistant", text, (call,))], [tool])

    render = ChatTemplate(QWEN).render
    tokens = tokenize(vocabulary, cutter, conversation(name, text), render)
    assert spelled(vocabulary, tokens) == render(conversation(name, text))
    expected = vocabulary.encode(render(conversation("x", "y")))
    assert specials(vocabulary, tokens) == specials(vocabulary, expected)


@given(content=st.text(st.characters(codec="utf-8", exclude_characters="<")))
def test_harmless_contents_are_tokenized_as_a_whole(
    vocabulary: Vocabulary, template: ChatTemplate, cutter: SafeCutter, content: str
) -> None:
    """Where nothing looks special, the tokens are those of the whole rendered text."""
    conversation = Conversation([Turn("user", content)])
    expected = vocabulary.encode(template.render(conversation))
    assert tokenize(vocabulary, cutter, conversation, template.render) == expected


def test_spelled_out_end(vocabulary: Vocabulary, cutter: SafeCutter) -> None:
    """The end of a turn, spelled out by a user, is several ordinary tokens."""
    tokens = tokenize(vocabulary, cutter, Conversation([Turn("user", END)]), first_text)
    assert tokens == vocabulary.encode_text(END)
    assert len(tokens) > 1


def test_no_character_left(vocabulary: Vocabulary, cutter: SafeCutter) -> None:
    """A text that uses up all private-use characters is refused."""
    every = "".join(map(chr, PRIVATE_USE))
    with pytest.raises(InvalidRequestError, match="private-use"):
        tokenize(vocabulary, cutter, Conversation([Turn("user", END + every)]), first_text)
