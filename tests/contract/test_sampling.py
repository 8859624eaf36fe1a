"""How tokens are chosen."""

from __future__ import annotations

from typing import Any

import pytest

from tests.contract.callers import Caller, Json, Rest, chat, content

HOT = {"temperature": 2}
# The model would end some answers within a few tokens.
# The bias makes a token come again and again.
LONG = {"max_tokens": 24, "ignore_eos": True, "logit_bias": {"504": 17}}


def texts(answer: Json) -> list[str]:
    return [choice["message"]["content"] for choice in answer["choices"]]


def token_ids(caller: Caller, **fields: Any) -> list[int]:
    (choice,) = caller.whole(chat(return_token_ids=True, **fields))["choices"]
    return list(choice["token_ids"])


def test_seed(caller: Caller) -> None:
    """A seed repeats the answer, another one gives another, and so does none."""
    body = chat(**HOT, max_tokens=8)
    seeded = [content(caller.whole(body | {"seed": seed})) for seed in (5, 5, 6)]
    assert seeded[0] == seeded[1] != seeded[2]
    assert content(caller.whole(body)) != content(caller.whole(body))


def test_n(caller: Caller) -> None:
    """n choices come by index and differ from each other; a seed repeats them all."""
    body = chat(**HOT, n=4, seed=5)
    first, second = caller.whole(body), caller.whole(body)
    assert [choice["index"] for choice in first["choices"]] == [0, 1, 2, 3]
    assert texts(first) == texts(second)
    assert len(set(texts(first))) == 4


def test_n_greedy(caller: Caller) -> None:
    """Greedy choices are all the same."""
    assert len(set(texts(caller.whole(chat(n=3))))) == 1


@pytest.mark.parametrize(
    "narrow",
    [
        {"top_k": 1},
        {"top_p": 0},
        {"min_p": 1},
        {"mirostat_target": 0},
        {"temperature": 0, "top_k": 100, "top_p": 1},
        {"temperature": 0, "top_k": 0},
    ],
    ids=str,
)
def test_narrowed_to_one(caller: Caller, narrow: Json) -> None:
    """What leaves but the most probable token gives the greedy answer."""
    assert content(caller.whole(chat() | HOT | narrow)) == content(caller.whole(chat()))


def test_typical_p_leaves_the_most_typical_token(caller: Caller) -> None:
    """With a typical_p of 0 one token is left, so that seeds make no difference."""
    body = chat(typical_p=0, **HOT)
    assert content(caller.whole(body | {"seed": 1})) == content(caller.whole(body | {"seed": 2}))


@pytest.mark.parametrize("neutral", [{"top_p": 1, "top_k": 0}, {"min_p": 0, "typical_p": 1}])
def test_defaults_change_nothing(caller: Caller, neutral: Json) -> None:
    """Given as a value, a default is as good as omitted; the temperature's is 1."""
    body = chat(seed=3, max_tokens=8)
    omitted = caller.whole({key: body[key] for key in body if key != "temperature"})
    assert content(caller.whole(body | {"temperature": 1} | neutral)) == content(omitted)


def test_logit_bias(caller: Caller) -> None:
    """A bias of 100 makes a token come, and one of -100 keeps it away."""
    (first, *_) = token_ids(caller)
    assert token_ids(caller, logit_bias={"504": 100}) == [504] * 4
    assert first not in token_ids(caller, logit_bias={str(first): -100})


@pytest.mark.parametrize("field", ["frequency_penalty", "presence_penalty"])
def test_penalties(caller: Caller, field: str) -> None:
    """A penalty makes repetitions fewer, and a reward more."""
    variety = [len(set(token_ids(caller, **LONG, **{field: value}))) for value in (2, 0, -2)]
    assert variety[0] > variety[1] >= variety[2]


def test_repetition_penalty(caller: Caller) -> None:
    """The repetition penalty makes repetitions fewer."""
    assert len(set(token_ids(caller, **LONG, repetition_penalty=1.5))) > len(
        set(token_ids(caller, **LONG))
    )


def test_mirostat(caller: Caller) -> None:
    """Mirostat is repeatable by its seed, and its learning rate has a say."""
    body = chat(max_tokens=12, seed=3, mirostat_target=6, temperature=1)
    slow, again, fast = (
        content(caller.whole(body | {"mirostat_lr": rate})) for rate in (0.1, 0.1, 0.9)
    )
    assert slow == again != fast


def test_speculation_changes_nothing(rest: Rest) -> None:
    """A prediction of the answer does not change it, whether it is right or wrong.

    A run that checks a draft rounds otherwise than a step, which may decide a near tie. The scores
    of the model that is served here are far apart.
    """
    line = "one two three four five six seven eight"
    roles = ("user", "assistant", "user", "assistant", "user")
    request = chat(max_tokens=8) | {"messages": [{"role": role, "content": line} for role in roles]}
    expected = content(rest.whole(request))
    for speculation in (expected, "Something else", [1, 2, 3]):
        assert content(rest.whole(request | {"speculation": speculation})) == expected
    prediction = {"type": "content", "content": expected}
    assert content(rest.whole(request | {"prediction": prediction})) == expected
