"""The default model says what its weights say."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer

from rapport.models.importer import ensure
from tests.conftest import MODEL
from tests.models.conftest import Decoder

pytestmark = pytest.mark.fidelity

TEXT = (Path(__file__).parent / "mixed_text.txt").read_text(encoding="utf-8")
QUESTION = [{"role": "user", "content": "What is the capital of France?"}]


@pytest.fixture(scope="module")
def tokenizer(int4_folder: Path) -> Tokenizer:
    return Tokenizer.from_file(str(int4_folder / "tokenizer.json"))


@pytest.fixture(scope="module", params=["int4", "int8", "int4-kv8", "int8-kv8"])
def fast(request: pytest.FixtureRequest, decoder: type[Decoder]) -> Decoder:
    return decoder(ensure(MODEL, request.param), slots=2)


@pytest.fixture(scope="module")
def float32(float32_folder: Path, decoder: type[Decoder]) -> Decoder:
    return decoder(float32_folder)


@pytest.fixture(scope="module")
def text_ids(tokenizer: Tokenizer) -> list[int]:
    return [1, *tokenizer.encode(TEXT, add_special_tokens=False).ids]


@pytest.fixture(scope="module")
def exact(float32: Decoder, text_ids: list[int]) -> list[np.ndarray]:
    """The logits of float32 for each slice of the text."""
    return list(prefilled(float32, text_ids, cuts_in(text_ids)))


def cuts_in(ids: list[int]) -> list[int]:
    return list(range(128, len(ids), 128))


def log_probabilities(logits: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def divergence(exact: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The KL divergence of each row of logits from the exact one, in nats."""
    exact, other = log_probabilities(exact), log_probabilities(other)
    return (np.exp(exact) * (exact - other)).sum(-1)


def prefilled(
    graph: Decoder, ids: list[int], cuts: list[int], slot: int = 0
) -> Iterator[np.ndarray]:
    """The logits of every token, slice by slice."""
    for start, end in pairwise([0, *cuts, len(ids)]):
        yield graph.run([ids[start:end]], [start], slot, rows=range(end - start))


def test_what_is_fast_is_near_float32(
    fast: Decoder, exact: list[np.ndarray], text_ids: list[int]
) -> None:
    """Over mixed text, it departs from float32 by no more than int8 activations explain.

    Weights, keys and values in 8 bits leave it within the same bound.
    """
    assert len(text_ids) >= 500
    slices = zip(exact, prefilled(fast, text_ids, cuts_in(text_ids)), strict=True)
    divergences = np.concatenate([divergence(*pair) for pair in slices])
    assert len(divergences) == len(text_ids)
    assert divergences.mean() <= 0.01


def test_what_is_fast_is_near_float32_step_by_step(
    fast: Decoder, exact: list[np.ndarray], text_ids: list[int]
) -> None:
    """Decoding token by token, which other kernels do than prefill, is as near."""
    ids = text_ids[:100]
    steps = np.concatenate([fast.run([[token]], [past]) for past, token in enumerate(ids)])
    assert divergence(exact[0][: len(ids)], steps).mean() <= 0.01


def greedy(graph: Decoder, ids: list[int], count: int) -> list[int]:
    """The next `count` tokens, or fewer where the model ends its turn."""
    out: list[int] = []
    logits = graph.run([ids], [0])
    while len(out) < count and (token := int(logits.argmax())) not in graph.about["eos_token_ids"]:
        out.append(token)
        logits = graph.run([[token]], [len(ids) + len(out) - 1])
    return out


@pytest.mark.parametrize(
    ("opening", "continued"),
    [
        ("", "The capital of France is Paris."),
        # llama.cpp, with int8 activations, opens with the runner-up (25.24 to 25.33) and says this.
        ("L", "'Étoile, la Marseillaise, la femme, la femme au martyre,"),
    ],
)
def test_float32_says_what_the_weights_say(
    float32: Decoder, float32_folder: Path, tokenizer: Tokenizer, opening: str, continued: str
) -> None:
    """Greedy answers are those of an independent implementation in float64, and of llama.cpp."""
    template = (float32_folder / "chat_template.jinja").read_text(encoding="utf-8")
    environment = ImmutableSandboxedEnvironment(autoescape=False)
    prompt = environment.from_string(template).render(messages=QUESTION, add_generation_prompt=True)
    ids = tokenizer.encode(prompt + opening, add_special_tokens=False).ids
    expected = tokenizer.encode(continued, add_special_tokens=False).ids
    assert tokenizer.decode(greedy(float32, ids, len(expected))) == continued


def test_slices_equal_the_whole(float32: Decoder, text_ids: list[int]) -> None:
    """A prompt prefilled in slices of any length gives the logits of one prefill."""
    ids = text_ids[:200]
    whole = next(prefilled(float32, ids, []))
    sliced = np.concatenate(list(prefilled(float32, ids, [64, 65, 180])))
    np.testing.assert_allclose(sliced, whole, atol=1e-3)


def test_fast_slices_are_near_the_whole(fast: Decoder, text_ids: list[int]) -> None:
    """There too, in another slot, but for what rounding activations to int8 makes of an ulp."""
    ids = text_ids[:200]
    whole = next(prefilled(fast, ids, []))
    sliced = np.concatenate(list(prefilled(fast, ids, [64, 65, 180], slot=1)))
    assert divergence(whole, sliced).mean() <= 0.01


def test_folder_describes_the_model(float32: Decoder) -> None:
    """The folder has the sizes, the tokens that end a turn and where it all came from."""
    about = float32.about
    sizes = ("layers", "heads", "kv_heads", "head_size", "vocab_size", "context_length")
    assert [about[size] for size in sizes] == [30, 9, 3, 64, 49152, 8192]
    assert about["eos_token_ids"] == [2, 0]
    assert about["owned_by"] == "HuggingFaceTB"
    assert about["source"]["license"] == "Apache-2.0"
