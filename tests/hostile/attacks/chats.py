"""Requests of a valid key that are as much work as one may be."""

from __future__ import annotations

import random
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx

from tests.contract.callers import PATH, chat
from tests.plain_http import NO_CERTIFICATES

TIMEOUT_S = 10
TOKENIZE = "/v1/tokenize"
GRAMMAR = "root ::= e\ne ::= e e e | e e | [ -~] | [ -~] [ -~]"
# A token of 80 characters, which the grammar reads in very many ways.
LONG_TOKEN = 45_855


def send(rest: str, key: str, body: Mapping[str, Any], *, count: int, path: str = PATH) -> None:
    """Sends the same request so many times at once, and leaves after `TIMEOUT_S`.

    Answers may be refusals; none is a 500.
    """
    headers = {"authorization": f"Bearer {key}"}
    limits = httpx.Limits(max_connections=count)
    with (
        httpx.Client(
            base_url=rest,
            headers=headers,
            timeout=TIMEOUT_S,
            limits=limits,
            trust_env=False,
            verify=NO_CERTIFICATES,
        ) as http,
        ThreadPoolExecutor(count) as pool,
    ):
        statuses = list(pool.map(lambda _: _status(http, path, body), range(count)))
    assert not {500, 501, 502} & set(statuses), statuses


def ambiguous_grammar(rest: str, key: str, *, n: int, max_tokens: int = 50) -> None:
    """A grammar that reads a text in exponentially many ways, with a bias towards long tokens."""
    form = {"type": "grammar", "grammar": GRAMMAR}
    body = chat(
        "x",
        response_format=form,
        n=n,
        temperature=1,
        max_tokens=max_tokens,
        logit_bias={str(LONG_TOKEN): 100},
    )
    send(rest, key, body, count=1)


def hard_schemas(rest: str, key: str, *, count: int, properties: int, seed: int) -> None:
    """Schemas that take long to compile, no two alike."""
    names = random.Random(seed)  # noqa: S311 - names, not secrets
    for _ in range(count):
        fields = {
            f"p{names.randrange(10**9)}": {
                "type": "string",
                "pattern": f"^[a-z]{{1,{5 + k % 90}}}$",
            }
            for k in range(properties)
        }
        schema = {"type": "object", "properties": fields, "required": list(fields)}
        form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
        send(rest, key, chat("x", response_format=form), count=1)


def long_truncations(rest: str, key: str, *, count: int, turns: int, words: int) -> None:
    """Conversations that are cut to a few tokens, turn by turn."""
    text = " ".join(f"w{number}" for number in range(words))
    body = chat(*[text] * turns, max_tokens=1, prompt_truncate_len=32)
    send(rest, key, body, count=count)


def long_tokenizations(rest: str, key: str, *, count: int, digits: int) -> None:
    """Texts of digits, each of which is a token."""
    body = {"model": chat()["model"], "text": "7" * digits}
    send(rest, key, body, count=count, path=TOKENIZE)


def large_n(rest: str, key: str, *, n: int, max_tokens: int) -> None:
    """Many choices of one request."""
    send(rest, key, chat("Tell me.", n=n, max_tokens=max_tokens, temperature=1), count=1)


def deep_json(rest: str, key: str, *, depth: int, count: int) -> None:
    """Bodies that nest."""
    schema: Any = {"type": "string"}
    for _ in range(depth):
        schema = {"type": "array", "items": schema}
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    send(rest, key, chat("x", response_format=form), count=count)


def many_mistakes(rest: str, key: str, *, items: int, count: int) -> None:
    """A body whose items are all wrong."""
    send(rest, key, chat() | {"messages": [1] * items}, count=count)


def long_predictions(rest: str, key: str, *, count: int, characters: int) -> None:
    """Guesses at the answer, far longer than it."""
    body = chat(prediction={"type": "content", "content": "7" * characters})
    send(rest, key, body, count=count)


def long_prompts(rest: str, key: str, *, count: int, characters: int) -> None:
    """Prompts beyond the context, which cannot be known before they are tokenized."""
    send(rest, key, chat("7" * characters), count=count)


def many_tools(rest: str, key: str, *, count: int, tools: int, properties: int) -> None:
    """Tools with large parameters, one of which must be called."""
    fields = {f"p{number}": {"type": "string"} for number in range(properties)}
    parameters = {"type": "object", "properties": fields, "required": list(fields)}
    given = [
        {"type": "function", "function": {"name": f"f{number}", "parameters": parameters}}
        for number in range(tools)
    ]
    send(rest, key, chat("x", tools=given, tool_choice="required"), count=count)


def heavy_sampling(rest: str, key: str, *, count: int, n: int, max_tokens: int) -> None:
    """All that makes a token costly to draw."""
    body = chat(
        "x",
        n=n,
        max_tokens=max_tokens,
        temperature=2,
        typical_p=0.9,
        top_p=0.99,
        min_p=0.001,
        repetition_penalty=1.5,
        frequency_penalty=1,
        presence_penalty=1,
        logprobs=True,
        top_logprobs=5,
        logit_bias={str(token): -1 for token in range(4000)},
        stop=["zzz" * 300, "yyy" * 300, "xxx" * 300, "www" * 300],
        echo=True,
        return_token_ids=True,
    )
    send(rest, key, body, count=count)


def _status(http: httpx.Client, path: str, body: Mapping[str, Any]) -> int:
    try:
        return http.post(path, json=body).status_code
    except httpx.TransportError:  # the server may hang up on an attacker
        return 0
