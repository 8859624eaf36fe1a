"""Requests from the description get the answers that are in it."""

from __future__ import annotations

import asyncio
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from typing import Any

import httpx
from schemathesis import Case

from bench.server import Target
from tests.gateway.openapi.conformance import explore
from tests.service.requests import MODEL

# What makes the toy service fail or take its time.
SPOILERS = ("fail_after", "hang_after", "pause_ms", "size", "count")
LENGTHS = ("max_tokens", "max_completion_tokens")
BASE = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}]}


def keep_quick(case: Case) -> Case:
    for place in (case.body, case.query):
        if isinstance(place, dict):
            for name in SPOILERS:
                place.pop(name, None)
            if case.operation.path in ("/v1/tell", "/v1/watch"):
                place["count"] = 2
    return case


def ask_little(case: Case) -> Case:
    """Makes of most requests good ones, and of chats such that the model can answer soon."""
    if "model" in case.path_parameters:
        case.path_parameters["model"] = MODEL
    body: Any = case.body
    if case.operation.path.endswith("/tokenize"):
        body["model"] = MODEL
    if case.operation.path.endswith("/completions"):
        extra = {name: body[name] for name in body if name not in (*BASE, *LENGTHS)}
        body.clear()
        kept = [*extra][:2] + ["stream"] * ("stream" in extra)
        body |= {**BASE, **{name: extra[name] for name in kept}, "max_tokens": 3}
        body |= {"n": 2} if "n" in body else {}
    return case


def explore_toy_service(url: str) -> Counter[tuple[str, int]]:
    """Explores it. A failure comes as one that can leave a process; Schemathesis's cannot."""
    try:
        return explore(url, examples=10, tame=keep_quick)
    except (Exception, BaseExceptionGroup) as error:
        raise AssertionError(str(error)) from error


async def test_toy_service(client: httpx.AsyncClient) -> None:
    """The gateway takes what it describes, refuses the rest, and answers as described."""
    work = partial(explore_toy_service, str(client.base_url).rstrip("/"))
    # In a process, as it parses source: two threads that do are more than CPython 3.11 survives.
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        seen = await asyncio.get_running_loop().run_in_executor(process, work)
    labels = {label for label, _ in seen}
    assert {label for label, status in seen if status == 200} == labels
    refused = {label for label, status in seen if status == 400}
    assert refused == labels - {"GET /v1/books/default"}  # It takes nothing.


def test_rapport(server: Target) -> None:
    """The real server refuses what it must as described, and does not fail.

    Rules that span several fields, such as those of tools and their choice, are not in the
    description.
    """
    assert server.rest is not None
    seen = explore(
        server.rest,
        examples=15,
        tame=ask_little,
        paths="^/v1/",
        excluded=("positive_data_acceptance",),
        allowed=501,
    )
    assert seen["POST /v1/chat/completions", 200] > 0
    assert seen["POST /v1/chat/completions", 400] > 0
    assert seen["GET /v1/models/{model}", 200] > 0
