from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rapport.common.model_spec import ModelSpec
from rapport.service.engine.runtime.load import load_runner
from rapport.service.engine.runtime.providers import CPU
from rapport.service.engine.runtime.runner import OnnxRunner
from rapport.service.engine.sampling.arrays import Floats
from rapport.service.engine.text.vocabulary import Vocabulary

VOCABULARY = 49152


@pytest.fixture(scope="module")
def runner(cpu_folder: Path) -> OnnxRunner:
    runner = load_runner(cpu_folder, ModelSpec.read(cpu_folder), CPU, slots=4, threads=0)
    assert isinstance(runner, OnnxRunner)
    return runner


@pytest.fixture(scope="module")
def prompts(cpu_folder: Path) -> list[list[int]]:
    vocabulary = Vocabulary.read(cpu_folder, VOCABULARY)
    texts = [
        "The quick brown fox",
        "In the beginning there was",
        "def main():\n    return",
        "1 2 3",
    ]
    return [vocabulary.encode(text) for text in texts]


def greedy(runner: OnnxRunner, slot: int, prompt: list[int]) -> int:
    return int(runner.prefill(slot, prompt, 0).argmax())


def test_slots_decode_as_they_would_alone(runner: OnnxRunner, prompts: list[list[int]]) -> None:
    """Decoded together, each of four slots gives what its own prompt calls for.

    Not to the bit: some kernels for one row round otherwise than those for several.
    """
    alone = []
    for prompt in prompts:
        runner.prefill(0, prompt, 0)
        alone.append([runner.decode([9], [len(prompt) + i])[0].copy() for i in range(4)])
    for slot, prompt in enumerate(prompts):
        runner.prefill(slot, prompt, 0)
    for step in range(4):
        logits = runner.decode([9] * 4, [len(prompt) + step for prompt in prompts])
        distances = [[divergence(own[step], row) for own in alone] for row in logits]
        assert max(row[place] for place, row in enumerate(distances)) < 0.02
        assert [int(np.argmin(row)) for row in distances] == [0, 1, 2, 3]


def divergence(wanted: Floats, given: Floats) -> float:
    """The Kullback-Leibler divergence of two rows of logits."""
    one, other = (row - np.logaddexp.reduce(row.astype(np.float64)) for row in (wanted, given))
    return float((np.exp(one) * (one - other)).sum())


def test_slices_equal_the_whole(runner: OnnxRunner, prompts: list[list[int]]) -> None:
    """A prompt in slices, in any slot, gives the logits of the prompt in one run."""
    prompt = ((prompts[0] + prompts[1]) * 12)[: runner.pace.slice_tokens]
    whole = runner.prefill(0, prompt, 0).copy()
    for start in range(0, len(prompt), 48):
        logits = runner.prefill(2, prompt[start : start + 48], start)
    np.testing.assert_allclose(logits, whole, atol=2e-3)


def test_a_draft_gets_the_logits_behind_each_token(
    runner: OnnxRunner, prompts: list[list[int]]
) -> None:
    """Verified in one run, tokens have nearly the logits that they have one by one.

    What was refused before leaves nothing behind.
    """
    prompt, draft = prompts[0], prompts[1]
    runner.prefill(1, prompt, 0)
    runner.verify(1, [9, 9, 9], len(prompt))
    together = runner.verify(1, draft, len(prompt)).copy()
    assert together.shape == (len(draft), VOCABULARY)
    runner.prefill(0, prompt, 0)
    for place, token in enumerate(draft):
        logits = runner.decode([token], [len(prompt) + place])[0]
        assert divergence(logits, together[place]) < 0.05


def test_copied_and_exchanged_slots_go_on(runner: OnnxRunner, prompts: list[list[int]]) -> None:
    """A slot that was copied, or exchanged with another, continues as before."""
    first, other = prompts[0], prompts[1]
    token = greedy(runner, 1, first)
    runner.copy(1, 0, len(first))
    wanted = runner.decode([token], [len(first)])[0].copy()
    greedy(runner, 3, other)
    runner.copy(1, 0, len(first))
    runner.exchange(0, len(first), 3, len(other))
    runner.exchange(3, len(first), 0, len(other))
    np.testing.assert_array_equal(runner.decode([token], [len(first)])[0], wanted)


def test_an_empty_batch_is_refused(runner: OnnxRunner) -> None:
    """No rows is an error here; in the runtime it would end the process."""
    with pytest.raises(ValueError, match="at least one row"):
        runner.decode([], [])


def test_prompts_of_float_weights_are_decoded_with_quantised_ones(
    cpu_folder: Path, float32_folder: Path, prefill_folder: Path, prompts: list[list[int]]
) -> None:
    """A prompt's keys and values are those of the float32 model, and decoding goes on behind."""
    quantised, float32 = (ModelSpec.read(folder) for folder in (cpu_folder, float32_folder))
    mixed = load_runner(cpu_folder, quantised, CPU, 2, 0, prefill_folder=prefill_folder)
    exact = load_runner(float32_folder, float32, CPU, 2, 0)
    prompt = prompts[0] * 8
    rows = [each.prefill(1, prompt, 0)[0] for each in (exact, mixed)]
    assert 0 < divergence(*rows) < 0.01
    kept = [each.memory.read(1, 0, len(prompt)) for each in (exact, mixed) if each.memory]
    np.testing.assert_array_equal(*kept)
    mixed.copy(1, 0, len(prompt))
    exact.copy(1, 0, len(prompt))
    rows = [each.decode([9], [len(prompt)])[0] for each in (exact, mixed)]
    assert 0 < divergence(*rows) < 0.05


def test_a_model_with_another_cache_cannot_compute_the_prompts(
    cpu_folder: Path, float16_folder: Path
) -> None:
    with pytest.raises(ValueError, match="float16"):
        load_runner(
            cpu_folder, ModelSpec.read(cpu_folder), CPU, 2, 0, prefill_folder=float16_folder
        )
