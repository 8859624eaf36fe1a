"""Parsing of requests for completions."""

from __future__ import annotations

from typing import Any

import pytest

from rapport.service.errors import InvalidRequestError
from rapport.service.request.completion import (
    CompletionRequest,
    Prompt,
    parse_completion_request,
)
from rapport.service.request.options import MaxTokens
from rapport.v1.chat_pb2 import TokenIds
from rapport.v1.completion_pb2 import (
    CompletionPrompt,
    CreateCompletionRequest,
    TextList,
    TokenLists,
)
from rapport.v1.logprobs_pb2 import LogprobsRequest
from tests.service.requests import completion

A = {"text": "a"}


def parsed(**fields: Any) -> CompletionRequest:
    request = completion(**fields)
    return parse_completion_request(request, vocabulary_size=10, streaming=False)


def refusal(**fields: Any) -> str:
    with pytest.raises(InvalidRequestError) as raised:
        parsed(**fields)
    return str(raised.value)


def texts(*items: str) -> dict[str, Any]:
    return {"texts": TextList(items=items)}


def ids(*lists: list[int]) -> dict[str, Any]:
    return {"token_lists": TokenLists(items=[TokenIds(items=tokens) for tokens in lists])}


@pytest.mark.parametrize(
    ("prompt", "prompts"),
    [
        (A, [Prompt("prompt", "a")]),
        (texts("a", "b"), [Prompt("prompt[0]", "a"), Prompt("prompt[1]", "b")]),
        ({"token_ids": TokenIds(items=[1, 2])}, [Prompt("prompt", (1, 2))]),
        (ids([1], [2, 3]), [Prompt("prompt[0]", (1,)), Prompt("prompt[1]", (2, 3))]),
    ],
)
def test_prompts(prompt: dict[str, Any], prompts: list[Prompt]) -> None:
    """A prompt comes in four forms; each prompt knows its place in the request."""
    assert parsed(prompt=CompletionPrompt(**prompt)).prompts == prompts


TOKENS = "Token id should be between 0 and 9"


@pytest.mark.parametrize(
    ("prompt", "told"),
    [
        ({}, "Field required, field: 'prompt'"),
        ({"text": ""}, "The prompt should have at least one token, field: 'prompt'"),
        (texts("a", ""), "The prompt should have at least one token, field: 'prompt[1]'"),
        (texts(), "List should have at least 1 item after validation, not 0, field: 'prompt'"),
        ({"token_ids": TokenIds(items=[1, 10])}, f"{TOKENS}, field: 'prompt[1]'"),
        (ids([1], [-1]), f"{TOKENS}, field: 'prompt[1][0]'"),
    ],
)
def test_bad_prompts(prompt: dict[str, Any], told: str) -> None:
    """What is no prompt is refused with its place."""
    assert refusal(prompt=CompletionPrompt(**prompt)) == told


def test_one_bad_token_of_a_prompt_is_named() -> None:
    """A prompt of unknown tokens does not make an error as long as itself."""
    assert refusal(prompt=CompletionPrompt(token_ids=TokenIds(items=[10] * 1000))).count("10") == 0


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"suffix": "b"}, "The model only continues texts: the suffix should be empty, field:"),
        ({"best_of": 3, "n": 2}, "Input should be 1 or the number of completions, 2, field:"),
        ({"temperature": 3}, "Input should be less than or equal to 2, field: 'temperature'"),
        ({"stream": True}, "Input should be False, or unset, for the RPC called, field: 'stream'"),
        ({"service_tier": 9}, "Input should be 'auto', 'default', 'flex' or 'priority', field:"),
        ({"metadata": {"a": "x" * 1025}}, "String should have at most 1024 characters, field:"),
        ({"prompt": CompletionPrompt(**texts(*"ab" * 32)), "n": 3}, "64 prompts should have at"),
    ],
)
def test_refused(fields: dict[str, Any], told: str) -> None:
    """What cannot be had is refused by name."""
    assert refusal(**fields).startswith(told)


@pytest.mark.parametrize(
    "fields",
    [
        {"suffix": ""},
        {"best_of": 1, "n": 2},
        {"best_of": 2, "n": 2},
        {"echo": True, "logprobs": LogprobsRequest(enabled=False)},
    ],
)
def test_neutral_values(fields: dict[str, Any]) -> None:
    """Values that ask for nothing are accepted."""
    assert parsed(**fields).max_tokens == MaxTokens()


def test_all_violations_are_collected() -> None:
    """All that is wrong is told at once, in order."""
    with pytest.raises(InvalidRequestError) as raised:
        parse_completion_request(CreateCompletionRequest(n=0), vocabulary_size=10, streaming=False)
    fields = [violation.field for violation in raised.value.violations]
    assert fields == ["model", "prompt", "n"]
