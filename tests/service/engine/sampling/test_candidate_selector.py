"""The graph of candidates, on the CPU provider, tells enough to draw as from whole rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import numpy as np
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rapport.service.engine.request import SamplingParams
from rapport.service.engine.runtime.providers import CPU
from rapport.service.engine.sampling import packed_settings
from rapport.service.engine.sampling.adjustments import MAX_ADJUSTED_TOKENS
from rapport.service.engine.sampling.arrays import Floats
from rapport.service.engine.sampling.candidate_graph import (
    MAX_VOCABULARY_TOKENS,
    Layout,
    candidate_graph,
)
from rapport.service.engine.sampling.candidate_selector import CandidateSelector, DeviceBuffer
from rapport.service.engine.sampling.logits import DeviceLogits, copied, whole_rows
from rapport.service.engine.sampling.logprobs import observe
from rapport.service.engine.sampling.sampler import Sampler
from tests.service.engine.softmax import softmax

ROWS = 4
VOCABULARIES = (50_257, 151_936, 262_144)
ALTERNATIVES = 5
PROMPT = range(1000, 1300)
MAX_ROW_BYTES = 32 * 1024

SAMPLINGS = [
    SamplingParams(temperature=0),
    SamplingParams(),
    SamplingParams(temperature=0.7, top_k=40),
    SamplingParams(temperature=0.6, top_p=0.9),
    SamplingParams(0.8, top_k=40, top_p=0.95, min_p=0.05),
    SamplingParams(temperature=0.5, min_p=0.05),
    SamplingParams(top_k=50, typical_p=0.9),
    SamplingParams(repetition_penalty=1.3, top_k=20),
    SamplingParams(temperature=0, repetition_penalty=1.3, logit_bias={1001: 30.0}),
    SamplingParams(frequency_penalty=1.0, presence_penalty=0.5, temperature=1e-4),
    SamplingParams(logit_bias={5: 30.0, 7: -100.0}),
]


@cache
def buffer(tokens: int) -> tuple[Floats, CandidateSelector]:
    """Memory for logits, and what selects from it."""
    rows = np.zeros((ROWS, tokens), np.float32)
    logits = DeviceBuffer(ort.OrtValue.ortvalue_from_numpy(rows), ROWS, tokens, CPU)
    return rows, CandidateSelector(logits)


def device_logits(rows: Floats) -> DeviceLogits:
    memory, selector = buffer(rows.shape[1])
    memory[: len(rows)] = rows
    return DeviceLogits(selector, 0, len(rows))


def random_rows(seed: int, tokens: int) -> Floats:
    """As peaked as a model's, with ties as those of a model in float16."""
    rows = np.random.default_rng(seed).standard_normal((ROWS, tokens)) * 3.5
    return rows.astype(np.float16).astype(np.float32)


def samplers(samplings: Sequence[SamplingParams], seed: int, tokens: int) -> list[Sampler]:
    return [
        Sampler(replace(sampling, seed=seed), PROMPT, row, tokens)
        for row, sampling in enumerate(samplings)
    ]


@settings(max_examples=12, derandomize=True)
@given(st.lists(st.sampled_from(SAMPLINGS), min_size=ROWS, max_size=ROWS), st.integers(0, 999))
@pytest.mark.parametrize("tokens", VOCABULARIES)
def test_a_seed_draws_the_same_tokens_as_from_whole_rows(
    tokens: int, samplings: list[SamplingParams], seed: int
) -> None:
    """Whatever the rows beside it ask for, and with the same log probabilities."""
    rows = random_rows(seed, tokens)
    drawing, wanted = (samplers(samplings, seed, tokens) for _ in range(2))
    found = device_logits(rows).candidates([sampler.settings() for sampler in drawing])
    for row, candidates, here, there in zip(rows, found, drawing, wanted, strict=True):
        assert candidates is not None
        token = there.draw(row.copy())
        assert here.draw_among(candidates) == token
        seen, true = (
            candidates.observe(token, ALTERNATIVES),
            observe(row, token, ALTERNATIVES),
        )
        assert seen.logprob == pytest.approx(true.logprob, abs=1e-5)
        assert [each for each, _ in seen.top] == [each for each, _ in true.top]


@pytest.mark.parametrize("count", [1, 5, 700, 3000])
@pytest.mark.parametrize("sampling", SAMPLINGS[:4])
def test_a_grammar_leaves_the_same_tokens(sampling: SamplingParams, count: int) -> None:
    """Beside rows without one; few allowed tokens are all candidates."""
    tokens = VOCABULARIES[0]
    rows, chance = random_rows(7, tokens), np.random.default_rng(count)
    allowed = np.zeros(tokens, np.bool_)
    allowed[chance.choice(tokens, count, replace=False)] = True
    bits = np.append(np.packbits(allowed, bitorder="little"), np.uint8(255))  # a word has more
    drawing, wanted = (samplers([sampling] * 2, 3, tokens) for _ in range(2))
    settings = [drawing[0].settings(bits), drawing[1].settings()]
    found = device_logits(rows[:2]).candidates(settings)
    masked = np.where(allowed, rows[0], -np.inf).astype(np.float32)
    for row, each, here, there in zip((masked, rows[1]), found, drawing, wanted, strict=True):
        assert each is not None
        assert here.draw_among(each) == there.draw(row.copy())


def test_penalties_follow_what_is_drawn() -> None:
    """Over many tokens of one row, as on the host."""
    tokens = VOCABULARIES[0]
    rows = random_rows(5, tokens)
    sampling = SamplingParams(repetition_penalty=1.2, frequency_penalty=0.4, temperature=0.3)
    (drawing,), (wanted,) = (samplers([replace(sampling, top_k=50)], 3, tokens) for _ in range(2))
    for _ in range(8):
        (found,) = device_logits(rows).candidates([drawing.settings(), None, None, None])[:1]
        assert found is not None
        assert drawing.draw_among(found) == wanted.draw(rows[0].copy())


@pytest.mark.parametrize("sampling", [SamplingParams(), SamplingParams(temperature=0.9, top_p=0.8)])
def test_tokens_come_as_often_as_they_should(sampling: SamplingParams) -> None:
    """The first tokens of a skewed row, drawn often enough."""
    tokens, draws = 3000, 1600
    row = -1.2 * np.log(np.arange(1, tokens + 1, dtype=np.float32))
    logits = device_logits(np.stack([row] * ROWS))
    drawing = samplers([sampling] * ROWS, 1, tokens)
    drawn: list[int] = []
    while len(drawn) < draws:
        found = logits.candidates([sampler.settings() for sampler in drawing])
        pairs = zip(drawing, found, strict=True)
        drawn += [sampler.draw_among(each) for sampler, each in pairs if each is not None]
    shares = softmax(row / sampling.temperature)
    within = shares[: int(shares.cumsum().searchsorted(sampling.top_p)) + 1]
    expected = within / within.sum()
    for token in range(8):
        assert drawn.count(token) / draws == pytest.approx(expected[token], abs=0.035)


@pytest.mark.parametrize("tokens", VOCABULARIES)
def test_a_row_gives_back_few_bytes(tokens: int) -> None:
    """With as many adjusted tokens as can be."""
    assert Layout(tokens).width(MAX_ADJUSTED_TOKENS) * 4 <= MAX_ROW_BYTES


def test_what_needs_the_whole_row_has_no_settings() -> None:
    many = dict.fromkeys(range(MAX_ADJUSTED_TOKENS + 1), 1.0)
    for sampling in (
        SamplingParams(typical_p=0.9),
        SamplingParams(mirostat_target=5.0),
        SamplingParams(logit_bias=many),
    ):
        assert Sampler(sampling, [], 0, 5000).settings() is None
    del many[0]
    assert Sampler(SamplingParams(logit_bias=many), [], 0, 5000).settings() is not None


def test_rows_come_whole_where_they_are_asked_for() -> None:
    """As copies, of those rows alone."""
    rows = random_rows(1, VOCABULARIES[0])
    logits = device_logits(rows)
    np.testing.assert_array_equal(copied(logits), rows)
    np.testing.assert_array_equal(whole_rows(logits[1:], [0, 2]), rows[[1, 3]])
    assert whole_rows(logits, []).shape == (0, VOCABULARIES[0])


def test_alternatives_are_candidates_or_the_row_is_needed() -> None:
    """Many tokens may have been raised over them, or a grammar may have refused them."""
    for tokens, shown in ((1, True), (1019, True), (1020, False)):
        bias = dict.fromkeys(range(tokens), 1.0)
        settings = Sampler(SamplingParams(logit_bias=bias), [], 0, 5000).settings()
        assert settings is not None
        assert settings.shows(ALTERNATIVES) == shown
    masked = Sampler(SamplingParams(), [], 0, 5000).settings(np.zeros(625, np.uint8))
    assert masked is not None
    assert not masked.shows(0)


def test_all_rows_get_their_candidates_though_they_run_apart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(packed_settings, "MAX_ROOM", 1000)
    tokens = VOCABULARIES[0]
    rows = random_rows(9, tokens)
    bias = SamplingParams(temperature=0, logit_bias=dict.fromkeys(range(400), 9.0))
    drawing = samplers([bias, SAMPLINGS[0], bias, bias], 0, tokens)
    wanted = samplers([bias, SAMPLINGS[0], bias, bias], 0, tokens)
    found = device_logits(rows).candidates([each.settings() for each in drawing])
    for row, each, here, there in zip(rows, found, drawing, wanted, strict=True):
        assert each is not None
        assert here.draw_among(each) == there.draw(row.copy())


def test_a_warm_up_finds_candidates_of_all_rows() -> None:
    _, selector = buffer(VOCABULARIES[0])
    selector.warm_up()


def test_a_later_row_can_be_asked_for_alone() -> None:
    """As the rows of a draft are, one after the other."""
    rows = random_rows(2, VOCABULARIES[0])
    logits = device_logits(rows)
    for place in range(ROWS):
        (sampler,) = samplers([SamplingParams(temperature=0)], 0, VOCABULARIES[0])
        (found,) = logits[place : place + 1].candidates([sampler.settings()])
        assert found is not None
        assert sampler.draw_among(found) == rows[place].argmax()


def test_ids_that_are_no_exact_floats_are_refused() -> None:
    with pytest.raises(ValueError, match="candidates"):
        candidate_graph(MAX_VOCABULARY_TOKENS + 1)
