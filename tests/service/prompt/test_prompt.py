from __future__ import annotations

from pathlib import Path

import pytest

from service.engine.vocabulary import Vocabulary
from service.errors import PromptTooLong
from service.prompt.prompt import PromptReader
from tests.service.requests import user


@pytest.fixture(scope="module")
def vocabulary(int4_folder: Path) -> Vocabulary:
    return Vocabulary.read(int4_folder, 49152)


@pytest.fixture(scope="module")
def reader(int4_folder: Path, vocabulary: Vocabulary) -> PromptReader:
    return PromptReader.load(int4_folder, vocabulary, 100)


def test_prompt(reader: PromptReader, vocabulary: Vocabulary) -> None:
    """Messages become the tokens of the rendered conversation."""
    tokens = reader.read([user("What is the capital of France?")])
    assert vocabulary.decode(tokens).endswith("user\nWhat is the capital of France?\nassistant\n")
    assert len(tokens) == 37


def test_prompt_over_the_context(reader: PromptReader) -> None:
    """A prompt that is somewhat too long is counted, for the caller to hear by how much."""
    assert len(reader.read([user("word " * 200)])) == 231


@pytest.mark.parametrize("messages", [[user("x" * 100_000)], [user("")] * 101])
def test_absurd_prompt(reader: PromptReader, messages: list[object]) -> None:
    """A prompt that cannot fit, however well it tokenizes, is refused without being tokenized."""
    with pytest.raises(PromptTooLong, match=r"^The prompt is too long: \d+, .* length: 99$"):
        reader.read(messages)  # type: ignore[arg-type]
