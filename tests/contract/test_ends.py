"""What ends an answer: the model, a stop text, max_tokens, and the context."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.contract.callers import Caller, Json, Rest, chat, content
from tests.contract.streams import join_stream

EOS = "2"
CONTEXT = 8192
Answer = Callable[[Caller, Json], Json]


def in_one(caller: Caller, request: Json) -> Json:
    return caller.whole(request)


def in_pieces(caller: Caller, request: Json) -> Json:
    return join_stream(caller.pieces(request))


either = pytest.mark.parametrize("answer", [in_one, in_pieces])


@pytest.fixture(scope="module")
def text(rest: Rest) -> str:
    """What the model says to the question when nothing stops it."""
    return content(rest.whole(chat(max_tokens=16)))


# Within one token, over two, over many, and the first character.
PLACES = [slice(5, 7), slice(1, 4), slice(4, 20), slice(1)]


@either
@pytest.mark.parametrize("place", PLACES, ids=str)
def test_stop_text_is_included(caller: Caller, text: str, answer: Answer, place: slice) -> None:
    """The text ends exactly with the stop text, wherever its tokens begin and end."""
    stop = text[place]
    stopped = answer(caller, chat(max_tokens=16, stop=stop))
    assert content(stopped) == text[: text.index(stop) + len(stop)]
    assert stopped["choices"][0]["finish_reason"] == "stop"


@either
def test_the_first_of_several_stops(caller: Caller, text: str, answer: Answer) -> None:
    """Of several stop texts the one that comes first ends the text."""
    late, early = text[8:11], text[3:5]
    assert content(answer(caller, chat(max_tokens=16, stop=[late, early]))) == text[:5]


@either
def test_half_a_stop_text(caller: Caller, text: str, answer: Answer) -> None:
    """Text that only begins like a stop text comes out whole."""
    assert content(answer(caller, chat(max_tokens=16, stop=text[-2:] + "never"))) == text


def test_stop_text_in_the_prompt(caller: Caller, text: str) -> None:
    """A stop text is not looked for in the prompt, not even in one that is echoed."""
    stop = "What is"
    assert stop not in text
    assert content(caller.whole(chat(max_tokens=16, stop=stop))) == text
    assert content(caller.whole(chat(max_tokens=16, stop=stop, echo=True))).endswith(text)


@pytest.mark.parametrize("limit", [1, 7])
@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_max_tokens(caller: Caller, name: str, limit: int) -> None:
    """The answer has no more tokens than either name allows, and then ends by length."""
    answer = caller.whole(chat() | {"max_tokens": None} | {name: limit})
    assert answer["usage"]["completion_tokens"] == limit
    assert answer["choices"][0]["finish_reason"] == "length"


@pytest.mark.parametrize("bias", [{}, {EOS: 100}], ids=["", "the model would end at once"])
def test_ignore_eos(caller: Caller, bias: Json) -> None:
    """With ignore_eos exactly max_tokens are generated; ends among them are no text."""
    answer = caller.whole(chat(max_tokens=9, ignore_eos=True, logit_bias=bias))
    assert answer["usage"]["completion_tokens"] == 9
    assert bool(content(answer)) is not bool(bias)
    assert answer["choices"][0]["finish_reason"] == "length"


def test_end_of_turn(caller: Caller) -> None:
    """The model's own end is a stop and no text, also where the prompt leaves less room."""
    ended = chat(logit_bias={EOS: 100}, max_tokens=CONTEXT)
    answer = caller.whole(ended | {"context_length_exceeded_behavior": "truncate"})
    assert (content(answer), answer["choices"][0]["finish_reason"]) == ("", "stop")


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_what_does_not_fit(caller: Caller, name: str) -> None:
    """With the behaviour "error", the error says how many tokens do not fit the context."""
    behavior = {"context_length_exceeded_behavior": "error"}
    just = {name: CONTEXT - 37, "logit_bias": {EOS: 100}}
    bare: dict[str, Any] = chat() | {"max_tokens": None} | behavior
    assert caller.whole(bare | just)
    refusal = caller.refusal(bare | {name: CONTEXT - 36})
    assert refusal.param == name
    assert refusal.message == (
        f"The prompt's 37 tokens and {name} {CONTEXT - 36} "
        f"exceed the model's context length of {CONTEXT}, field: '{name}'"
    )


@pytest.mark.parametrize("behavior", ["truncate", "error", None])
def test_prompt_too_long(caller: Caller, behavior: str | None) -> None:
    """A prompt that alone fills the context is refused in the words that clients look for."""
    words = CONTEXT - 31  # beside the tokens of the template
    refusal = caller.refusal(chat("word " * words, context_length_exceeded_behavior=behavior))
    assert refusal.message == "The prompt is too long: 8192, model maximum context length: 8191"
    assert refusal.param == "messages"


def test_prompt_far_too_long(caller: Caller) -> None:
    """A prompt too long to be worth counting is refused in the same words."""
    refusal = caller.refusal(chat("word " * 300_000))
    assert refusal.message.startswith("The prompt is too long: ")
    assert refusal.message.endswith(", model maximum context length: 8191")
