"""What candidates cost to bring to the host, counted over a stub of CUDA."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import cache

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from rapport.service.engine.request import SamplingParams
from rapport.service.engine.runtime.device import DeviceLostError, device_zeros
from rapport.service.engine.runtime.providers import CUDA, choose_provider
from rapport.service.engine.sampling import candidate_selector
from rapport.service.engine.sampling.adjustments import MAX_ADJUSTED_TOKENS
from rapport.service.engine.sampling.arrays import Bytes
from rapport.service.engine.sampling.candidate_graph import candidate_graph
from rapport.service.engine.sampling.candidate_selector import CandidateSelector, DeviceBuffer
from rapport.service.engine.sampling.logits import DeviceLogits
from rapport.service.engine.sampling.packed_settings import GRAIN_BYTES
from rapport.service.engine.sampling.sampler import Sampler
from tests.support.cuda_stub import stub
from tests.support.cuda_stub.observation import ObservedSession, return_inputs

pytestmark = pytest.mark.cuda_stub

ROWS, TOKENS = 16, 151_936
FEW_TOKENS, STEPS = 512, 200
UNMASKED = {"settings": TensorProto.FLOAT}
MASKED = {**UNMASKED, "allowed": TensorProto.UINT8}
MAX_ROW_BYTES = 32 * 1024
MASK_BYTES = TOKENS // 8

SAMPLINGS = [
    SamplingParams(temperature=0),
    SamplingParams(temperature=0.7, top_k=40, top_p=0.9, min_p=0.05, seed=1),
    SamplingParams(repetition_penalty=1.1, frequency_penalty=0.5, presence_penalty=0.5),
    SamplingParams(logit_bias=dict.fromkeys(range(MAX_ADJUSTED_TOKENS), 1.0)),
]


@cache
def selector() -> CandidateSelector:
    choose_provider("cuda")
    logits = device_zeros((ROWS, TOKENS), np.float32, CUDA)
    selector = CandidateSelector(DeviceBuffer(logits, ROWS, TOKENS, CUDA))
    selector.warm_up()
    return selector


@cache
def small_selector() -> CandidateSelector:
    choose_provider("cuda")
    logits = device_zeros((ROWS, FEW_TOKENS), np.float32, CUDA)
    return CandidateSelector(DeviceBuffer(logits, ROWS, FEW_TOKENS, CUDA))


def observed_sessions(monkeypatch: pytest.MonkeyPatch) -> list[ObservedSession]:
    """What the small selector's graphs are given: that without masks, and that with them."""

    def graph(tokens: int, *, masked: bool = False) -> bytes:
        model = onnx.load_from_string(candidate_graph(tokens, masked=masked))
        return_inputs(model, MASKED if masked else UNMASKED)
        return bytes(model.SerializeToString())

    monkeypatch.setattr(candidate_selector, "candidate_graph", graph)
    selector = small_selector()
    pairs = zip(selector._sessions, (UNMASKED, MASKED), strict=True)
    observed = [ObservedSession(*pair) for pair in pairs]
    monkeypatch.setattr(selector, "_sessions", observed)
    return observed


def random_sampler(chance: random.Random) -> Sampler:
    """With a few tokens of which some are penalised and some biased."""
    bias = {
        chance.randrange(FEW_TOKENS): chance.uniform(-9, 9) for _ in range(chance.randint(0, 9))
    }
    sampling = SamplingParams(
        temperature=chance.choice([0, 0.5, 1.3]),
        repetition_penalty=chance.choice([1, 1.2]),
        presence_penalty=chance.choice([0, 0.4]),
        logit_bias=chance.choice([{}, bias]),
        seed=chance.randrange(99),
    )
    sampler = Sampler(sampling, [chance.randrange(FEW_TOKENS) for _ in range(5)], 0, FEW_TOKENS)
    for _ in range(chance.randint(0, 3)):
        sampler._count(chance.randrange(FEW_TOKENS))
    return sampler


def random_mask(chance: random.Random) -> Bytes | None:
    return chance.choice([None, np.frombuffer(chance.randbytes(FEW_TOKENS // 8), np.uint8)])


def find(samplings: Sequence[SamplingParams], masks: Sequence[bool] = ()) -> stub.Counters:
    """What a step brings across."""
    prompt = range(500)
    drawing = [Sampler(each, prompt, row, TOKENS) for row, each in enumerate(samplings)]
    allowed = [np.zeros(MASK_BYTES, np.uint8) if mask else None for mask in masks]
    allowed += [None] * (len(drawing) - len(allowed))
    settings = [each.settings(mask) for each, mask in zip(drawing, allowed, strict=True)]
    logits = DeviceLogits(selector(), 0, len(settings))
    stub.reset()
    logits.candidates(settings)
    return stub.counters()


@pytest.mark.parametrize("rows", [1, 2, 5, 16])
def test_a_step_is_one_upload_and_few_bytes_a_row(rows: int) -> None:
    """Whatever its rows ask for; and all memory was taken at the start."""
    counters = find([SAMPLINGS[row % len(SAMPLINGS)] for row in range(rows)])
    assert (counters.uploads, counters.downloads, counters.mallocs) == (1, 1, 0)
    assert counters.download_bytes <= MAX_ROW_BYTES * rows


def test_masks_come_with_the_rest() -> None:
    """A bit for each token, in the same upload; and no row comes to the host for them."""
    counters = find(SAMPLINGS[:2], [True, False])
    plain = find(SAMPLINGS[:2])
    assert counters.uploads == 1
    assert abs(counters.upload_bytes - plain.upload_bytes - 2 * MASK_BYTES) < GRAIN_BYTES
    assert (counters.downloads, counters.download_bytes) == (1, plain.download_bytes)


def test_what_lies_on_the_device_is_what_each_row_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Over random steps: temperature, random number, penalties, bias and mask of each row."""
    observed = observed_sessions(monkeypatch)
    chance = random.Random(3)  # noqa: S311 - a test's course
    for _ in range(STEPS):
        drawing = [random_sampler(chance) for _ in range(chance.randint(1, ROWS))]
        masks = [random_mask(chance) for _ in drawing]
        settings = [each.settings(mask) for each, mask in zip(drawing, masks, strict=True)]
        DeviceLogits(small_selector(), 0, len(settings)).candidates(settings)
        masked = any(mask is not None for mask in masks)
        seen = observed[masked].seen
        for row, (given, wanted) in enumerate(zip(seen["settings"], settings, strict=True)):
            assert wanted is not None
            assert given[:, 0].tolist() == [wanted.temperature, np.float32(wanted.share), 0]
            assert set(map(tuple, given[:, 1:].T)) == set(map(tuple, wanted.adjustments.T))
            if masked:
                every = np.full(FEW_TOKENS // 8, 255, np.uint8)
                mask = every if masks[row] is None else masks[row]
                assert (seen["allowed"][row] == mask).all()


@pytest.mark.parametrize("failing", ["upload:700@1", "launch:719@3", "download:700@1"])
def test_a_lost_device_is_no_error_of_a_row(failing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whenever it is lost, the engine's thread ends with it."""
    logits = DeviceLogits(selector(), 0, 1)
    settings = Sampler(SAMPLINGS[0], [], 0, TOKENS).settings()
    monkeypatch.setenv("CUDA_STUB_FAIL", failing)
    stub.reset()
    with pytest.raises(DeviceLostError):
        logits.candidates([settings])
    monkeypatch.delenv("CUDA_STUB_FAIL")
    stub.reset()


def test_a_row_that_is_needed_comes_alone() -> None:
    stub.reset()
    DeviceLogits(selector(), 0, ROWS).rows([3, 7])
    counters = stub.counters()
    assert (counters.uploads, counters.downloads) == (0, 2)
    assert counters.download_bytes == 2 * TOKENS * 4
