"""Log probabilities of the tokens of prompts."""

from __future__ import annotations

import math

import pytest

from rapport.service.engine.config import EngineConfig
from rapport.service.engine.generation import Generation
from tests.service.engine.fake import END, SIZE, EndingRunner, FakeRunner, greedy, next_token
from tests.service.engine.test_engine import running, text

PROMPT = "a prompt of forty tokens, some of them.."
LENGTH = len(PROMPT)
TOTAL = math.log(math.exp(10) + SIZE - 1)


def expected_logprobs(prompt: str, first: int) -> list[tuple[int, float]]:
    """Those of the tokens from a place on, by the arithmetic of the model."""
    tokens = prompt.encode()
    return [
        (tokens[at], (10 if tokens[at] == next_token(tokens[:at]) else 0) - TOTAL)
        for at in range(first, len(tokens))
    ]


def found(generation: Generation) -> list[tuple[int, float]]:
    return [(each.token, each.logprob) for each in generation.prompt_logprobs_of()]


@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize("scored", [1, 5, 16, 17, LENGTH - 1, LENGTH, LENGTH + 9])
async def test_scores_are_the_models_own(scored: int, *, deterministic: bool) -> None:
    """Whatever part of the prompt is asked for, and though its beginning is cached."""
    async with running(FakeRunner(), EngineConfig(deterministic=deterministic)) as engine:
        for _ in range(2):
            request = greedy(PROMPT, 4, scored_tokens=scored, logprobs=2, n=2)
            async with engine.submit(request) as generation:
                deltas = [delta async for delta in generation]
            said = "".join(delta.text for delta in deltas if delta.index == 1)
            assert said == text(PROMPT, 4)
            expected = expected_logprobs(PROMPT, max(LENGTH - scored, 1))
            assert found(generation) == [(token, pytest.approx(value)) for token, value in expected]
            assert all(len(each.top) == 2 for each in generation.prompt_logprobs_of())


async def test_cached_tokens_are_used_up_to_the_first_score() -> None:
    """What comes before need not be computed again."""
    async with running(FakeRunner()) as engine:
        for request in (greedy(PROMPT, 2), greedy(PROMPT, 2, scored_tokens=3, logprobs=0)):
            async with engine.submit(request) as generation:
                [_ async for _ in generation]
        assert 0 < generation.cached_tokens <= LENGTH - 4


async def test_a_prompt_of_one_token_has_none() -> None:
    """Nothing comes before it."""
    async with running(FakeRunner()) as engine:
        async with engine.submit(greedy("a", 2, scored_tokens=1, logprobs=0)) as generation:
            [_ async for _ in generation]
        assert not found(generation)


async def test_the_end_has_an_entry() -> None:
    """Callers who measure prompts count from the end, so that each token has one."""
    async with running(EndingRunner(LENGTH)) as engine:
        request = greedy(PROMPT, 4, scored_tokens=LENGTH, logprobs=0)
        async with engine.submit(request) as generation:
            (last,) = [delta async for delta in generation]
    assert [each.token for each in last.logprobs] == [END] == last.token_ids
