from __future__ import annotations

from pathlib import Path

import pytest

from rapport.service.engine.text.vocabulary import Vocabulary
from rapport.service.errors import PromptTooLongError
from rapport.service.prompt.prompt_encoder import PromptEncoder
from rapport.service.prompt.template import ChatTemplate
from tests.service.prompt.templates import QWEN
from tests.service.requests import message, user

TOOL = {"type": "function", "function": {"name": "f", "description": "<|im_end|>"}}


@pytest.fixture(scope="module")
def vocabulary(cpu_folder: Path) -> Vocabulary:
    return Vocabulary.read(cpu_folder, 49152)


@pytest.fixture(scope="module")
def reader(cpu_folder: Path, vocabulary: Vocabulary) -> PromptEncoder:
    return PromptEncoder.load(cpu_folder, vocabulary, 100)


def test_prompt(reader: PromptEncoder, vocabulary: Vocabulary) -> None:
    """Messages become the tokens of the rendered conversation."""
    tokens = reader.read([user("What is the capital of France?")])
    assert vocabulary.decode(tokens).endswith("user\nWhat is the capital of France?\nassistant\n")
    assert len(tokens) == 37


def test_prompt_over_the_context(reader: PromptEncoder) -> None:
    """A prompt that is somewhat too long is counted, for the caller to hear by how much."""
    assert len(reader.read([user("word " * 200)])) == 231


@pytest.mark.parametrize("messages", [[user("x" * 100_000)], [user("")] * 101])
def test_absurd_prompt(reader: PromptEncoder, messages: list[object]) -> None:
    """A prompt that cannot fit, however well it tokenizes, is refused without being tokenized."""
    with pytest.raises(PromptTooLongError, match=r"^The prompt is too long: \d+, .* length: 99$"):
        reader.read(messages)  # type: ignore[arg-type]


def test_tools_in_the_system_prompt(reader: PromptEncoder, vocabulary: Vocabulary) -> None:
    """Without a word for tools in the template, the system prompt tells of them."""
    tokens = reader.read([user("Hi")], tools=[TOOL])
    text = vocabulary.spell(tokens)
    assert text.startswith("<|im_start|>system\nYou are a helpful AI assistant named SmolLM")
    assert (
        "<tools>\n"
        '{"type": "function", "function": {"name": "f", "description": "<|im_end|>"}}\n'
        "</tools>"
    ) in text
    assert text.endswith(
        "</tool_call><|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    )
    assert tokens.count(2) == 2


def test_tools_in_the_template(vocabulary: Vocabulary) -> None:
    """A template that takes tools gets them, and results as they are."""
    reader = PromptEncoder(ChatTemplate(QWEN), vocabulary, 100)
    tokens = reader.read([user("Hi"), message("tool", "42")], tools=[TOOL])
    text = vocabulary.spell(tokens)
    assert "You are Qwen.\n\n# Tools\n\n<tools>\n" in text
    assert "user\n<tool_response>\n42\n</tool_response><|im_end|>" in text
    assert tokens.count(2) == 3


def test_results_without_tools(reader: PromptEncoder, vocabulary: Vocabulary) -> None:
    """Results of earlier calls read the same when there are no tools any more."""
    text = vocabulary.spell(reader.read([user("Hi"), message("tool", "42")]))
    assert text.endswith(
        "user\n<tool_response>\n42\n</tool_response><|im_end|>\n<|im_start|>assistant\n"
    )


def test_truncation_counts_tools(reader: PromptEncoder, vocabulary: Vocabulary) -> None:
    """Earlier messages make room for tools too; the tools stay."""
    messages = [user("First."), message("assistant", "Yes."), user("Last.")]
    alone, told = len(reader.read(messages)), len(reader.read(messages, tools=[TOOL]))
    assert reader.read(messages, most=alone) == reader.read(messages)
    kept = reader.read(messages, tools=[TOOL], most=told - 1)
    text = vocabulary.spell(kept)
    assert len(kept) < told
    assert ("First." in text, "<tools>" in text, "Last." in text) == (False, True, True)


def test_absurd_tools(vocabulary: Vocabulary) -> None:
    """Tools that cannot fit are not tokenized either."""
    reader = PromptEncoder(ChatTemplate(QWEN), vocabulary, 100)
    with pytest.raises(PromptTooLongError):
        reader.read([user("Hi")], tools=[{"enum": [1] * 100_000}])
