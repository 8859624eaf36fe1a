"""An engine whose logits stay on a device answers as one whose logits come to the host."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from rapport.service.engine.config import EngineConfig
from rapport.service.engine.engine import Engine
from rapport.service.engine.request import Delta, GenerationRequest, SamplingParams
from rapport.service.engine.sampling.grammar_compiler import GrammarCompiler
from tests.service.engine.fake import (
    END,
    FakeRunner,
    byte_vocabulary,
    fake_spec,
    greedy,
)
from tests.service.engine.on_device import DeviceFakeRunner

VOCABULARY = byte_vocabulary()
LETTERS = GrammarCompiler(VOCABULARY, [END]).compile("start: /[a-z]+/")


def sampled(prompt: str, *, n: int = 1, **sampling: Any) -> GenerationRequest:
    params = SamplingParams(**{"seed": 4, "temperature": 3.0} | sampling)
    return replace(greedy(prompt, 12, n=n, logprobs=2), sampling=params)


REQUESTS = [
    greedy("plain", 20),
    greedy("choices", 9, n=6),
    greedy("abcabcabcabc", 20, prediction=tuple(b"abcabc")),
    sampled("seeded", n=3),
    sampled("narrowed", top_k=5, top_p=0.9),
    sampled("penalised", frequency_penalty=0.5, repetition_penalty=1.1, top_p=0.5),
    sampled("biased", logit_bias={100: 8.0, 101: -50.0}),
    greedy("held", 12, grammar=LETTERS),
]


async def answers(runner: FakeRunner, requests: list[GenerationRequest]) -> list[list[Delta]]:
    engine = Engine(runner, fake_spec(), VOCABULARY, EngineConfig())
    engine.start(lambda: None)

    async def deltas(request: GenerationRequest) -> list[Delta]:
        generation = engine.submit(request)
        async with generation:
            return [delta async for delta in generation]

    try:
        return await asyncio.gather(*map(deltas, requests))
    finally:
        await engine.stop()


def summary(deltas: list[Delta]) -> dict[int, tuple[list[int], Any]]:
    """Tokens, and log probabilities to five digits, of each choice."""
    merged: dict[int, tuple[list[int], Any]] = {}
    for delta in deltas:
        tokens, seen = merged.setdefault(delta.index, ([], []))
        tokens += delta.token_ids
        seen += [
            (each.token, pytest.approx(each.logprob, abs=1e-5), [token for token, _ in each.top])
            for each in delta.logprobs
        ]
    return merged


@pytest.mark.parametrize("together", [True, False])
async def test_the_same_answers(*, together: bool) -> None:
    """Alone with drafts, or beside each other with slots that change hands."""
    batches = [REQUESTS] if together else [[request] for request in REQUESTS]
    for batch in batches:
        wanted = await answers(FakeRunner(), batch)
        drawn = await answers(DeviceFakeRunner(), batch)
        assert list(map(summary, drawn)) == list(map(summary, wanted))


async def test_only_rows_that_must_come_to_the_host() -> None:
    """That of a prompt for its later choices, and no other; not those under a grammar either."""
    runner = DeviceFakeRunner()
    await answers(runner, [request for request in REQUESTS if request.n == 1])
    assert runner.selector.fetched == 0
    await answers(runner, [greedy("choices", 9, n=6)])
    assert runner.selector.fetched == 1
