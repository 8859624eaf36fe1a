"""Grammars that take long to follow cost the request that sends them, and nobody else."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.contract.callers import PATH, chat
from tests.hostile.attacked import Attacked
from tests.hostile.attacks.chats import GRAMMAR, LONG_TOKEN
from tests.plain_http import NO_CERTIFICATES

# Its masks take longer with each letter: a few milliseconds at ten, over 100 ms at a hundred.
LATE = "root ::= e\ne ::= e e e e | e e e | e e | e | [a]"
LETTER = 81
MAX_CALL_S = 120.0


def call(attacked: Attacked, grammar: str, token: int, n: int, max_tokens: int) -> httpx.Response:
    body: dict[str, Any] = chat(
        "x",
        response_format={"type": "grammar", "grammar": grammar},
        logit_bias={str(token): 100},
        temperature=1,
        n=n,
        max_tokens=max_tokens,
        ignore_eos=True,
    )
    headers = {"authorization": f"Bearer {attacked.keys['greedy']}"}
    url = f"{attacked.rest}{PATH}"
    return httpx.post(
        url, json=body, headers=headers, timeout=MAX_CALL_S, trust_env=False, verify=NO_CERTIFICATES
    )


@pytest.mark.parametrize(
    ("grammar", "token", "n"),
    [
        pytest.param(GRAMMAR, LONG_TOKEN, 16, id="soon"),
        # It takes a minute where other tests keep the machine busy.
        pytest.param(LATE, LETTER, 2, id="late", marks=pytest.mark.scale),
    ],
)
def test_ambiguous_grammars(attacked: Attacked, grammar: str, token: int, n: int) -> None:
    """A text that the grammar reads in very many ways: the request ends with a 400 that says so."""
    with attacked.beside():
        answer = call(attacked, grammar, token, n, 150)
    assert answer.status_code == 400, answer.text
    assert "rammar" in answer.json()["error"]["message"]
