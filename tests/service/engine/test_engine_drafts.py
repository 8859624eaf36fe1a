"""Drafts change how many runs an answer takes, and nothing else."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from rapport.service.engine.config import EngineConfig
from rapport.service.engine.engine import Engine
from rapport.service.engine.errors import StepFailedError
from rapport.service.engine.request import Delta, GenerationRequest, SamplingParams
from rapport.service.engine.runtime.providers import CPU
from rapport.service.engine.sampling.grammar_compiler import GrammarCompiler
from tests.service.engine.fake import (
    END,
    FakeRunner,
    byte_vocabulary,
    collect,
    expected,
    fake_spec,
    greedy,
)

VOCABULARY = byte_vocabulary()
PROMPT = "ab" * 6
RIGHT = tuple(expected(PROMPT.encode(), 40))
HALF = (*RIGHT[:9], 0, *RIGHT[10:])


async def answer(
    runner: FakeRunner, request: GenerationRequest, *, drafts: bool
) -> tuple[dict[int, Delta], int]:
    """Each choice as one delta, and what usage would count."""
    engine = Engine(runner, fake_spec(), VOCABULARY, EngineConfig(drafts=drafts))
    engine.start(lambda: None)
    whole: dict[int, Delta] = {}
    async with engine.submit(request) as generation:
        async for delta in generation:
            if delta.index in whole:
                whole[delta.index].extend(delta)
            else:
                whole[delta.index] = delta
    await engine.stop()
    assert not any(runner.contents)
    return whole, generation.completion_tokens


SAMPLINGS = [
    SamplingParams(temperature=0),
    SamplingParams(seed=1),
    SamplingParams(seed=2, temperature=1.7, top_p=0.9, top_k=30, min_p=0.001),
    SamplingParams(seed=3, frequency_penalty=0.5, presence_penalty=-0.5, repetition_penalty=1.2),
    SamplingParams(seed=4, mirostat_target=3.0),
    SamplingParams(temperature=0, logit_bias={RIGHT[5]: -100}),
]


@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("prediction", [RIGHT, HALF, RIGHT[3:]])
async def test_the_answer_is_the_same(
    sampling: SamplingParams, prediction: tuple[int, ...]
) -> None:
    """Tokens, text, log probabilities and usage do not depend on drafts, right or wrong.

    The same seed draws the same tokens, so their distribution is the same too.
    """
    request = replace(greedy(PROMPT, 40, prediction=prediction, logprobs=3, n=2), sampling=sampling)
    plain, drafting = FakeRunner(1), FakeRunner(1)
    wanted = await answer(plain, request, drafts=False)
    assert await answer(drafting, request, drafts=True) == wanted
    assert drafting.drafts
    assert not plain.drafts


async def test_a_right_draft_saves_runs() -> None:
    """A prediction that comes true takes a fraction of the runs, and never runs past the end."""
    runner = FakeRunner()
    whole, used = await answer(runner, greedy(PROMPT, 40, prediction=RIGHT), drafts=True)
    assert (whole[0].token_ids, used) == (list(RIGHT), 40)
    assert len(runner.drafts) + len(runner.batches) < 20
    assert sum(runner.drafts) + len(runner.drafts) + len(runner.batches) == 39


@pytest.mark.parametrize(
    ("prediction", "least", "most"), [(RIGHT, 1, 1), (HALF, 0.3, 0.99), ((), 0, 0)]
)
async def test_what_came_true_is_counted(
    prediction: tuple[int, ...], least: float, most: float
) -> None:
    """A request knows how many of the tokens guessed for it came out so."""
    engine = Engine(FakeRunner(), fake_spec(), VOCABULARY, EngineConfig())
    engine.start(lambda: None)
    request = greedy(PROMPT, 40 if prediction else 1, prediction=prediction)
    async with engine.submit(request) as generation:
        await collect(generation)
    await engine.stop()
    accepted, drafted = generation.accepted_tokens, generation.drafted_tokens
    assert least * drafted <= accepted <= most * drafted
    assert bool(drafted) == bool(prediction)


@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("length", range(1, 9))
async def test_a_stop_within_a_draft_discards_the_rest(length: int, n: int) -> None:
    """A stop string ends a choice wherever in a draft it is complete; another goes on."""
    stop = bytes(RIGHT[2 : 2 + length]).decode()
    request = greedy(PROMPT, 40, prediction=RIGHT, stop=(stop,), n=n)
    wanted = await answer(FakeRunner(1), request, drafts=False)
    assert await answer(FakeRunner(1), request, drafts=True) == wanted
    assert wanted[1] < 40 * n


async def test_an_end_within_a_draft_discards_the_rest() -> None:
    """The end of the turn ends the answer, though the draft goes on."""
    request = replace(
        greedy(PROMPT, 40, prediction=(END, *RIGHT)),
        sampling=SamplingParams(seed=5, temperature=2, logit_bias={END: 9.0}),
    )
    wanted = await answer(FakeRunner(), request, drafts=False)
    assert await answer(FakeRunner(), request, drafts=True) == wanted
    assert wanted[1] < 40


@pytest.mark.parametrize("temperature", [0, 2])
async def test_forced_text_comes_in_few_runs(temperature: float) -> None:
    """Text that the grammar leaves no choice in is drafted, and the answer is the same."""
    source = 'start: "first " /[a-z]{3}/ " last part"'
    grammar = GrammarCompiler(VOCABULARY, [END]).compile(source)
    sampling = SamplingParams(temperature=temperature, seed=6)
    request = replace(greedy(PROMPT, 40), grammar=grammar, sampling=sampling)
    runner = FakeRunner()
    wanted = await answer(FakeRunner(), request, drafts=False)
    assert await answer(runner, request, drafts=True) == wanted
    assert wanted[0][0].text.endswith(" last part")
    assert len(runner.drafts) + len(runner.batches) < 10


async def test_several_streams_draft_nothing() -> None:
    """While more than one sequence decodes each step is one run for all of them."""
    runner = FakeRunner()
    await answer(runner, greedy(PROMPT, 30, n=2, prediction=RIGHT), drafts=True)
    # The first choice may be a token ahead of the second.
    assert runner.batches.count(2) >= 28
    assert len(runner.drafts) <= 1


async def test_a_failing_draft_fails_its_request() -> None:
    """The runtime's failure under a draft reaches the request, and the slot comes back."""
    runner = FakeRunner()

    def fail(kind: str) -> None:
        if kind == "verify":
            raise RuntimeError("out of memory")

    runner.before = fail
    engine = Engine(runner, fake_spec(), VOCABULARY, EngineConfig())
    engine.start(lambda: None)
    with pytest.raises(StepFailedError, match="RuntimeError"):
        await collect(engine.submit(greedy(PROMPT, 30, prediction=RIGHT)))
    await engine.stop()
    assert engine.slot_counters.taken == engine.slot_counters.released == 1


@pytest.mark.fidelity
async def test_the_real_model_says_the_same(float32_folder: Path) -> None:
    """In float32 a text that repeats itself comes out the same with drafts and without."""
    text = "<|im_start|>user\nRepeat: one two three four five. one two three four five."
    text += "<|im_end|>\n<|im_start|>assistant\n"
    said = []
    for drafts in (False, True):
        config = EngineConfig(slots=1, drafts=drafts)
        engine = await asyncio.to_thread(Engine.load, float32_folder, CPU, config)
        engine.start(lambda: None)
        prompt = tuple(engine.vocabulary.encode(text))
        request = GenerationRequest(prompt, 32, sampling=SamplingParams(temperature=0))
        async with engine.submit(request) as generation:
            said.append([token async for delta in generation for token in delta.token_ids])
        await engine.stop()
    assert said[0] == said[1]
