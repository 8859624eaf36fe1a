"""Models that people download, if the folder RAPPORT_TEST_GGUF has their files.

They are too large to be fetched for every run of the tests, and Gemma's licence is its own.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from rapport.common.model_spec import ModelSpec
from rapport.models.cache.fetch import sha256_of
from rapport.models.importer import import_file
from rapport.service.engine.text.vocabulary import Vocabulary
from tests.models.conftest import Decoder
from tests.models.test_fidelity import TEXT, divergence

pytestmark = pytest.mark.fidelity

FOLDER = os.environ.get("RAPPORT_TEST_GGUF", "")
TOKENS = 256
# By /tokenize of llama-server (build 11549), special tokens as text, of lines of `bench.agreement`.
RECORDED = Path(__file__).parent / "llama_cpp_tokens.json"


@dataclass(frozen=True)
class RealFile:
    """A file, and how greedy text goes on after a prompt."""

    name: str
    sha256: str
    tokens: str
    """The key of its tokens in `llama_cpp_tokens.json`."""
    prompt: str
    continued: str
    template: str | None = None


QWEN = RealFile(
    "qwen.gguf",  # Qwen2.5-Coder-0.5B-Instruct Q4_K_M
    "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
    "qwen",
    "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n",
    "The capital of France is Paris.",
)
GEMMA = RealFile(
    "gemma.gguf",  # Gemma 3 270M Q4_K_M
    "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
    "gemma",
    "<bos>Once upon a time, there was a little",
    " girl named Lily. She was a very smart girl",
    template="{{ messages[0].content }}",
)


@pytest.fixture(scope="module", params=[QWEN, GEMMA], ids=lambda file: file.name)
def file(request: pytest.FixtureRequest) -> RealFile:
    path = Path(FOLDER, request.param.name)
    if not FOLDER or not path.is_file():
        pytest.skip(f"RAPPORT_TEST_GGUF has no {request.param.name}")
    assert sha256_of(path) == request.param.sha256
    return request.param


@pytest.fixture(scope="module")
def folder_of(
    file: RealFile, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Path]]:
    """Imports the file in a precision, into a cache that lasts as long as the tests of the file."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAPPORT_CACHE", str(tmp_path_factory.mktemp("real")))
        yield lambda precision: import_file(
            Path(FOLDER, file.name), precision, chat_template=file.template
        )


def ids_of(folder: Path, text: str) -> list[int]:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    return list(tokenizer.encode(text, add_special_tokens=False).ids)


def test_it_goes_on_as_the_model_does(file: RealFile, folder_of: Callable[..., Path]) -> None:
    """The tokenizer, every layer and the head are right, or this text would not come."""
    folder = folder_of("int4")
    graph, ids = Decoder(folder, room=128), ids_of(folder, file.prompt)
    expected = ids_of(folder, file.continued)
    logits = graph.run([ids], [0])
    for place, token in enumerate(expected):
        assert int(logits.argmax()) == token, f"at {place}"
        logits = graph.run([[token]], [len(ids) + place])


def test_its_tokens_are_those_of_llama_cpp(file: RealFile, folder_of: Callable[..., Path]) -> None:
    check_tokens(folder_of("int4"), file.tokens)


def test_tokens_of_the_default_model_are_those_of_llama_cpp(int4_folder: Path) -> None:
    check_tokens(int4_folder, "smollm2")


def check_tokens(folder: Path, key: str) -> None:
    """Lines of prose, code and random Unicode have the tokens that llama-server gave them."""
    recorded = json.loads(RECORDED.read_text(encoding="utf-8"))
    vocabulary = Vocabulary.read(folder, ModelSpec.read(folder).vocab_size)
    for text, tokens in zip(recorded["texts"], recorded[key], strict=True):
        assert vocabulary.encode_text(text) == tokens, text


@pytest.mark.parametrize("precision", ["int4", "int8"])
def test_it_is_near_float32(folder_of: Callable[..., Path], precision: str) -> None:
    """Over mixed text, what rounding activations makes of it stays small."""
    exact_folder, folder = folder_of("float32"), folder_of(precision)
    ids = ids_of(folder, TEXT)[:TOKENS]
    exact, other = (
        Decoder(each).run([ids], [0], rows=range(len(ids))) for each in (exact_folder, folder)
    )
    assert np.mean(divergence(exact, other)) <= 0.01
