"""What becomes of messages before the model reads them, and how a caller gets to see it."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from tests.contract.callers import Caller, Json, Rest, chat, content, user

TOOL_TURNS = [
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
        ],
    },
    {"role": "tool", "tool_call_id": "c", "content": "42"},
]
SYSTEM = {"role": "system", "content": "Be brief."}
SAID = {"role": "assistant", "content": "Indeed."}


def tokens(caller: Caller, messages: list[Json], **fields: Any) -> list[int]:
    """The prompt's tokens."""
    body = chat(max_tokens=1, return_token_ids=True, **fields) | {"messages": messages}
    return list(caller.whole(body)["prompt_token_ids"])


@pytest.mark.parametrize("fields", [{}, {"prompt_truncate_len": None}], ids=str)
def test_nothing_is_evicted_unasked(caller: Caller, fields: Json) -> None:
    """Without a prompt_truncate_len nothing is evicted, though the prompt be too long for it."""
    messages = [user("word " * 9000), SAID, user("Two.")]
    refusal = caller.refusal(chat(**fields) | {"messages": messages})
    assert refusal.message.startswith("The prompt is too long: ")


def test_eviction(caller: Caller) -> None:
    """The earliest user and assistant turns go, until the prompt is short enough."""
    messages = [SYSTEM, user("One."), SAID, user("Two."), SAID, user("Three.")]
    kept = [SYSTEM, user("Two."), SAID, user("Three.")]
    expected = tokens(caller, kept)
    assert tokens(caller, messages, prompt_truncate_len=len(expected)) == expected
    assert tokens(caller, messages, prompt_truncate_len=len(tokens(caller, messages)) - 1) == (
        tokens(caller, [SYSTEM, SAID, user("Two."), SAID, user("Three.")])
    )


def test_what_always_stays(caller: Caller) -> None:
    """The system prompt and the last user message stay, though they be longer than asked."""
    messages = [SYSTEM, user("One."), SAID, user("Two.")]
    expected = tokens(caller, [SYSTEM, user("Two.")])
    assert tokens(caller, messages, prompt_truncate_len=1) == expected


def test_calls_go_with_their_results(caller: Caller) -> None:
    """A call and its result are evicted together or not at all."""
    messages = [SYSTEM, user("One."), *TOOL_TURNS, SAID, user("Two.")]
    possible = [messages[:1] + messages[start:] for start in (1, 2, 4, 5)]
    lengths = [len(tokens(caller, kept)) for kept in possible]
    for kept, most in zip(possible, lengths, strict=True):
        assert tokens(caller, messages, prompt_truncate_len=most) == tokens(caller, kept)
    half = tokens(caller, messages, prompt_truncate_len=lengths[1] - 1)
    assert half == tokens(caller, possible[2])


def test_eviction_comes_before_the_context(caller: Caller) -> None:
    """What is evicted does not count against the context."""
    messages = [user("word " * 9000), SAID, user("Two.")]
    assert tokens(caller, messages, prompt_truncate_len=1000) == (
        tokens(caller, [SAID, user("Two.")])
    )


@pytest.mark.parametrize("safe", [None, True])
def test_contents_never_become_special(caller: Caller, safe: bool | None) -> None:
    """Markup in a message is ordinary text, unless safe_tokenization is off."""
    messages = [user("<|im_end|>")]
    fields = {"safe_tokenization": safe}
    marks = tokens(caller, messages, **fields).count(2)
    assert marks == tokens(caller, [user("Hi")]).count(2)
    assert tokens(caller, messages, safe_tokenization=False).count(2) == marks + 1


def test_echo(caller: Caller) -> None:
    """The prompt comes before the answer, as the model saw it; echo_last gives its end."""
    answer = caller.whole(chat(raw_output=True))
    said = content(answer)
    prompt = "".join(answer["choices"][0]["raw_output"]["prompt_fragments"])
    assert prompt.endswith("<|im_start|>assistant\n")
    assert content(caller.whole(chat(echo=True))) == prompt + said
    assert content(caller.whole(chat(echo_last=3))) == f"assistant\n{said}"
    assert content(caller.whole(chat(echo_last=10_000))) == prompt + said
    assert content(caller.whole(chat(echo_last=0))) == said


def test_echo_is_not_counted(caller: Caller) -> None:
    """An echoed prompt is neither among the completion's tokens nor their ids."""
    answer = caller.whole(chat(echo=True, return_token_ids=True))
    assert answer["usage"]["completion_tokens"] == 4
    assert len(answer["choices"][0]["token_ids"]) == 4


def test_raw_output(caller: Caller) -> None:
    """Raw output is prompt and completion, texts and tokens, the special ones shown."""
    body = chat(raw_output=True, return_token_ids=True, logit_bias={"2": 100})
    answer = caller.whole(body)
    (choice,) = answer["choices"]
    raw = choice["raw_output"]
    assert (raw["completion"], raw["completion_token_ids"]) == ("<|im_end|>", [2])
    assert choice["token_ids"] == raw["completion_token_ids"]
    assert raw["prompt_token_ids"] == answer["prompt_token_ids"]
    assert len(raw["prompt_token_ids"]) == answer["usage"]["prompt_tokens"]
    assert "grammar" not in raw


def cached(caller: Caller, question: str, **fields: Any) -> int:
    usage = caller.whole(chat(question, max_tokens=1, **fields))["usage"]
    return int(usage["prompt_tokens_details"]["cached_tokens"])


def test_isolation(caller: Caller) -> None:
    """A prompt that came before is not computed again, except for another isolation key."""
    question = f"{uuid.uuid4()}: " + "what came before? " * 8
    key, other = str(uuid.uuid4()), str(uuid.uuid4())
    assert cached(caller, question, prompt_cache_isolation_key=key) == 0
    assert cached(caller, question, prompt_cache_isolation_key=key) > 0
    assert cached(caller, question, prompt_cache_isolation_key=other) == 0


def test_tokenize(rest: Rest) -> None:
    """Tokenize tells the very prompt that a chat has, and the tokens of a text."""
    messages = [SYSTEM, user("Hi")]
    body = {"model": chat()["model"], "messages": messages}
    answer = rest.http.post("/v1/tokenize", json=body).json()
    assert list(answer) == ["token_ids", "pieces", "count"]
    assert answer["token_ids"] == tokens(rest, messages)
    assert answer["count"] == len(answer["token_ids"]) == len(answer["pieces"])
    of_text = {"model": body["model"], "text": "Hello <|im_end|>"}
    answer = rest.http.post("/inference/v1/tokenize", json=of_text).json()
    assert "".join(answer["pieces"]) == "Hello <|im_end|>"
    assert 2 not in answer["token_ids"]
