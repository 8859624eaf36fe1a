"""The comparison of two runners, of which both are the CPU's here."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from bench.gpu_check.course import SLOTS, TEXT_TOKENS, course, fill
from bench.gpu_check.numbers import compared, distances, followed, greedy, repeated
from bench.gpu_check.subject import Measured, Subject
from rapport.common.model_spec import ModelSpec
from rapport.service.engine.runtime.load import load_runner
from rapport.service.engine.runtime.providers import CPU
from rapport.service.engine.runtime.runner import OnnxRunner
from rapport.service.engine.sampling.arrays import Floats
from tests.models.tiny import Tiny, write_tiny

# Of a tiny model, whose tokens are all about as probable.
MAX_DIVERGENCE = 1e-5
PROMPT_TOKENS = 50


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    scratch = tmp_path_factory.mktemp("models")
    return Subject.of(write_tiny(scratch / "tiny.gguf", Tiny(context=2048)), scratch)


@pytest.fixture(scope="module")
def text(subject: Subject) -> Sequence[int]:
    return subject.text(TEXT_TOKENS)


@pytest.fixture(scope="module")
def wanted(subject: Subject, text: Sequence[int]) -> list[tuple[str, Floats]]:
    return list(course(runner(subject, "float32"), text))


def runner(subject: Subject, precision: str) -> OnnxRunner:
    folder = subject.folder(precision)
    loaded = load_runner(folder, ModelSpec.read(folder), CPU, SLOTS, 0)
    assert isinstance(loaded, OnnxRunner)
    return loaded


def divergences(found: Measured) -> dict[str, float]:
    return {kind: each["mean_divergence"] for kind, each in found["kinds"].items()}


def test_the_same_graph_in_float16_is_near(
    subject: Subject, text: Sequence[int], wanted: list[tuple[str, Floats]]
) -> None:
    """In every kind of step, whatever the slots held before."""
    half = runner(subject, "float16")
    fill(half, TEXT_TOKENS)
    found = divergences(compared(wanted, list(course(half, text))))
    assert list(found) == ["slices", "prompts", "decode steps", "drafts"]
    assert 0 < max(found.values()) < MAX_DIVERGENCE


def test_a_step_with_the_inputs_of_the_one_before_is_found(
    subject: Subject,
    text: Sequence[int],
    wanted: list[tuple[str, Floats]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """That is what a binding to memory that is not uploaded again computes."""
    stale = runner(subject, "float32")
    decode, lengths = stale.decode, {}

    def late(tokens: Sequence[int], pasts: Sequence[int]) -> Floats:
        return decode(lengths.setdefault(len(tokens), list(tokens)), pasts)

    monkeypatch.setattr(stale, "decode", late)
    found = divergences(compared(wanted, list(course(stale, text))))
    assert found["decode steps"] > 10 * MAX_DIVERGENCE
    assert found["slices"] == 0


def test_logits_that_are_no_numbers_are_found() -> None:
    rows = np.zeros((2, 5), np.float32)
    assert distances(rows, np.full_like(rows, np.nan)) == {"finite": False}
    assert distances(rows, rows)["mean_divergence"] == 0


def test_greedy_tokens_are_followed(subject: Subject, text: Sequence[int]) -> None:
    """A token that the reference would not take costs what it is less probable."""
    reference = runner(subject, "float32")
    prompt = text[:PROMPT_TOKENS]
    tokens = greedy(reference, prompt)
    found = followed(reference, prompt, tokens)
    assert found == {"tokens": len(tokens), "same": len(tokens), "max_regret": 0}
    others = followed(reference, prompt, [*tokens[:-1], tokens[-1] + 1])
    assert others["same"] == len(tokens) - 1
    assert others["max_regret"] > 0


def test_a_step_is_run_again(subject: Subject, text: Sequence[int]) -> None:
    assert repeated(runner(subject, "float32"), text)["repeatable"]
