"""Formats that are hard to compile cost the key that sends them, and nobody else."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import count
from threading import Event
from typing import Any

import httpx

from tests.contract.callers import PATH, chat
from tests.hostile.attacked import Attacked
from tests.plain_http import NO_CERTIFICATES

FLOODS = 3
HONEST = 5
# A busy machine's; compilations in line before another's would take longer.
MAX_CALL_S = 30.0


def with_regex(regex: str) -> dict[str, Any]:
    return chat("x", max_tokens=1, response_format={"type": "regex", "regex": regex})


def with_schema(name: str) -> dict[str, Any]:
    schema = {"type": "object", "properties": {name: {"type": "string"}}}
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    return chat("x", max_tokens=1, response_format=form)


def client(attacked: Attacked, key: str) -> httpx.Client:
    headers = {"authorization": f"Bearer {attacked.keys[key]}"}
    return httpx.Client(
        base_url=attacked.rest,
        headers=headers,
        timeout=2 * MAX_CALL_S,
        trust_env=False,
        verify=NO_CERTIFICATES,
    )


def test_one_key_floods(attacked: Attacked) -> None:
    """While a key has hard formats compiled without a pause, those of another all succeed in time.

    The hard ones are refused with what they take too much of, or for their number.
    """
    numbers, ended = count(14_000), Event()

    def flood() -> set[int]:
        with client(attacked, "greedy") as http:
            statuses = set()
            while not ended.is_set():
                body = with_regex("a?" * next(numbers))
                statuses.add(http.post(PATH, json=body).status_code)
            return statuses

    with attacked.beside(), ThreadPoolExecutor(FLOODS) as pool:
        floods = [pool.submit(flood) for _ in range(FLOODS)]
        try:
            with client(attacked, "second") as http:
                for number in range(HONEST):
                    answer = http.post(PATH, json=with_schema(f"p{number}"))
                    assert answer.status_code == 200, answer.text
                    assert answer.elapsed.total_seconds() < MAX_CALL_S
        finally:
            ended.set()
        statuses = set[int]().union(*(future.result() for future in floods))
    assert statuses <= {400, 429}
