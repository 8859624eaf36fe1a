"""Deterministic decoding on the real model: bytes do not depend on company, slot or cache."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
import pytest_asyncio

from rapport.service.engine.config import EngineConfig
from rapport.service.engine.engine import Engine
from rapport.service.engine.request import GenerationRequest, SamplingParams
from rapport.service.engine.runtime.providers import CPU
from rapport.service.engine.sampling.logprobs import TokenLogprob

TURN = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
LONG = TURN.format("Repeat: the sea, the sky, the sand and the wind. " * 8)
Choices = dict[int, list[TokenLogprob]]
OTHERS = ("int8", "float_prefill")

pytestmark = pytest.mark.asyncio(loop_scope="module")


# The default model in each of its precisions would take most of a minute: one in `make test`.
PRECISIONS = ["int4", *(pytest.param(name, marks=pytest.mark.fidelity) for name in OTHERS)]


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=PRECISIONS)
async def engine(request: pytest.FixtureRequest) -> AsyncIterator[Engine]:
    config = EngineConfig(slots=4, deterministic=True)
    has_prefill = request.param == "float_prefill"
    folder = request.getfixturevalue("int8_folder" if request.param == "int8" else "int4_folder")
    prefill = request.getfixturevalue("prefill_folder") if has_prefill else None
    engine = await asyncio.to_thread(Engine.load, folder, CPU, config, prefill)
    engine.start(lambda: None)
    yield engine
    await engine.stop()


def ask(
    engine: Engine, text: str, sampling: SamplingParams, max_tokens: int = 12
) -> GenerationRequest:
    """Every log probability is compared too: a token may be the same by luck, those are not."""
    prompt = tuple(engine.vocabulary.encode(text))
    return GenerationRequest(prompt, max_tokens, sampling=sampling, logprobs=3, ignore_eos=True)


async def answer(engine: Engine, request: GenerationRequest) -> Choices:
    choices: Choices = {}
    async with engine.submit(request) as generation:
        async for delta in generation:
            choices.setdefault(delta.index, []).extend(delta.logprobs)
    return choices


@pytest.mark.parametrize(
    "sampling", [SamplingParams(temperature=0), SamplingParams(temperature=1.2, seed=5)]
)
async def test_same_bytes_alone_together_and_from_the_cache(
    engine: Engine, sampling: SamplingParams
) -> None:
    # A namespace of its own: the first answer finds nothing in the cache.
    request = replace(ask(engine, LONG, sampling), namespace=f"{sampling}")
    cold = await answer(engine, request)
    cached = await answer(engine, request)
    elsewhere = replace(request, namespace="no prefix here")
    others = [ask(engine, TURN.format(word), SamplingParams(), 20) for word in ("Hello", "Count")]
    # The others hold the first slots when this one comes, and one of them ends before it.
    crowd = [asyncio.create_task(answer(engine, other)) for other in others]
    await asyncio.sleep(0.1)
    together = await asyncio.gather(answer(engine, request), answer(engine, elsewhere))
    await asyncio.gather(*crowd)
    assert cold == cached == together[0] == together[1]


async def test_a_second_turn_is_the_same_from_the_cache_and_without_it(engine: Engine) -> None:
    """Decoded tokens are rounded otherwise than those of a prompt, so they are not kept."""
    first = ask(engine, LONG, SamplingParams(temperature=0), 40)
    first = replace(first, namespace="turns")
    said = tuple(entry.token for entry in (await answer(engine, first))[0])
    again = tuple(engine.vocabulary.encode("<|im_end|>\n" + TURN.format("Go on.")))
    second = replace(first, prompt=first.prompt + said + again, max_tokens=12)
    warm = await answer(engine, second)
    assert warm == await answer(engine, replace(second, namespace="no prefix here"))
