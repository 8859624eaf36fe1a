"""Log probabilities in both shapes, whole and in pieces."""

from __future__ import annotations

import math

import pytest

from tests.contract.callers import Caller, Json, chat, content
from tests.contract.streams import join_stream

ENTRY = ["token", "logprob", "bytes", "top_logprobs", "token_id", "text_offset"]
LISTS = ["tokens", "token_logprobs", "top_logprobs", "text_offset", "token_ids"]


def present(caller: Caller, **fields: object) -> list[Json]:
    (choice,) = caller.whole(chat(**{"logprobs": True} | fields))["choices"]
    assert list(choice["logprobs"]) == ["content"]
    return list(choice["logprobs"]["content"])


@pytest.mark.parametrize("top", [None, 0, 1, 20])
def test_present_shape(caller: Caller, top: int | None) -> None:
    """true gives an entry for each token, with as many alternatives as asked for."""
    entries = present(caller, top_logprobs=top)
    assert len(entries) == 4
    for entry in entries:
        assert list(entry) == ENTRY
        assert entry["logprob"] <= 0
        assert len(entry["top_logprobs"]) == (top or 0)
        for alternative in entry["top_logprobs"]:
            assert list(alternative) == ["token", "logprob", "token_id", "bytes"]


def test_tokens_are_the_text(caller: Caller) -> None:
    """Bytes and offsets of the tokens are those of the text, and their ids the answer's."""
    answer = caller.whole(chat(logprobs=True, return_token_ids=True, max_tokens=6))
    (choice,) = answer["choices"]
    entries = choice["logprobs"]["content"]
    said = bytes(byte for entry in entries for byte in entry["bytes"])
    assert said.decode() == content(answer)
    assert [entry["token_id"] for entry in entries] == choice["token_ids"]
    offset = 0
    for entry in entries:
        assert entry["text_offset"] == offset
        offset += len(entry["token"])


def test_greedy_takes_the_first_alternative(caller: Caller) -> None:
    """Alternatives come in order of probability, and the greedy token is the first."""
    for entry in present(caller, top_logprobs=5):
        alternatives = entry["top_logprobs"]
        assert alternatives[0]["token_id"] == entry["token_id"]
        values = [alternative["logprob"] for alternative in alternatives]
        assert values == sorted(values, reverse=True)
        assert sum(map(math.exp, values)) <= 1


@pytest.mark.parametrize("count", [0, 1, 5])
def test_legacy_shape(caller: Caller, count: int) -> None:
    """A number gives parallel lists; the token itself is always among its alternatives."""
    body = chat(logprobs=count, temperature=2, seed=1, max_tokens=6)
    (choice,) = caller.whole(body)["choices"]
    lists = choice["logprobs"]
    assert list(lists) == LISTS
    assert {len(each) for each in lists.values()} == {6}
    for token, logprob, top in zip(*list(lists.values())[:3], strict=True):
        assert math.isclose(top[token], logprob)
        assert max(count, 1) <= len(top) <= count + 1


def test_both_shapes_agree(caller: Caller) -> None:
    """The shapes tell the same tokens, values and places."""
    entries = present(caller)
    (choice,) = caller.whole(chat(logprobs=0))["choices"]
    lists = choice["logprobs"]
    assert lists["token_ids"] == [entry["token_id"] for entry in entries]
    assert lists["text_offset"] == [entry["text_offset"] for entry in entries]
    values = [entry["logprob"] for entry in entries]
    assert lists["token_logprobs"] == pytest.approx(values, abs=0.02)


def test_they_are_the_models_own(caller: Caller) -> None:
    """Neither temperature nor bias change the log probability of a token."""
    first = present(caller, max_tokens=1)[0]
    token = {str(first["token_id"]): 100}
    biased = present(caller, max_tokens=1, logit_bias=token, temperature=2)[0]
    assert biased["token_id"] == first["token_id"]
    assert biased["logprob"] == pytest.approx(first["logprob"], abs=0.02)


@pytest.mark.parametrize("logprobs", [True, 0])
def test_stop_text_is_told(caller: Caller, logprobs: bool | int) -> None:
    """The tokens of an included stop text have their log probabilities, in streams too."""
    text = content(caller.whole(chat(max_tokens=8)))
    body = chat(max_tokens=8, stop=text[3:6], logprobs=logprobs)
    for answer in (caller.whole(body), join_stream(caller.pieces(body))):
        given = answer["choices"][0]["logprobs"]
        tokens = given["tokens"] if "tokens" in given else [e["token"] for e in given["content"]]
        assert "".join(tokens).startswith(text[:6])
        assert content(answer) == text[:6]


def test_echoed_tokens_have_log_probabilities(caller: Caller) -> None:
    """Those of the prompt come first, of which nothing precedes the first one."""
    plain, echoed = present(caller), present(caller, echo=True, top_logprobs=1)
    text = content(caller.whole(chat(echo=True)))
    assert bytes(byte for entry in echoed for byte in entry["bytes"]).decode() == text
    assert [echoed[0].get("logprob"), echoed[0]["top_logprobs"]] == [None, []]
    assert all(e["logprob"] <= e["top_logprobs"][0]["logprob"] <= 0 for e in echoed[1:])
    shift = len(text) - len(content(caller.whole(chat())))
    assert [e["text_offset"] for e in echoed[-4:]] == [e["text_offset"] + shift for e in plain]
    last = present(caller, echo_last=2)
    assert [e["token_id"] for e in last] == [e["token_id"] for e in echoed[-6:]]
    assert [e["logprob"] for e in last] == pytest.approx(
        [e["logprob"] for e in echoed[-6:]], abs=0.05
    )


def test_raw_output_has_log_probabilities(caller: Caller) -> None:
    """They are those of the choice, in the shape that was asked for."""
    for logprobs in (True, 1):
        (choice,) = caller.whole(chat(logprobs=logprobs, raw_output=True))["choices"]
        assert choice["raw_output"]["completion_logprobs"] == choice["logprobs"]
    (choice,) = caller.whole(chat(raw_output=True))["choices"]
    assert "completion_logprobs" not in choice["raw_output"]


def test_no_logprobs(caller: Caller) -> None:
    """Without logprobs, or with false, there are none; 0 asks for the legacy shape."""
    for body in (chat(), chat(logprobs=False), chat(logprobs=None)):
        assert caller.whole(body)["choices"][0]["logprobs"] is None
        assert not any(piece["choices"][0]["logprobs"] for piece in caller.pieces(body))
