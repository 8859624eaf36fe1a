from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rapport.common.fair_threads import finish
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
def encoder(cpu_folder: Path, vocabulary: Vocabulary) -> PromptEncoder:
    return PromptEncoder.load(cpu_folder, vocabulary, 100)


def encode(encoder: PromptEncoder, *args: Any, **options: Any) -> tuple[int, ...]:
    return finish(encoder.encode(*args, **options))


def test_prompt(encoder: PromptEncoder, vocabulary: Vocabulary) -> None:
    """Messages become the tokens of the rendered conversation."""
    tokens = encode(encoder, [user("What is the capital of France?")])
    assert vocabulary.decode(tokens).endswith("user\nWhat is the capital of France?\nassistant\n")
    assert len(tokens) == 37


def test_the_shortest_prompt(encoder: PromptEncoder) -> None:
    """No conversation takes less than one message of one letter."""
    assert encoder.min_prompt_tokens() == len(encode(encoder, [user("a")]))


def test_prompt_over_the_context(encoder: PromptEncoder) -> None:
    """A prompt that is a little too long is counted, so that the error can say by how much."""
    assert len(encode(encoder, [user("word " * 200)])) == 231


@pytest.mark.parametrize("messages", [[user("x" * 100_000)], [user("")] * 101])
def test_absurd_prompt(encoder: PromptEncoder, messages: list[object]) -> None:
    """A prompt that cannot fit, however well it tokenizes, is refused without being tokenized."""
    with pytest.raises(
        PromptTooLongError, match=r"^The prompt is too long: at least \d+, .* length: 99$"
    ):
        encode(encoder, messages)  # type: ignore[arg-type]


def test_no_more_of_a_text_than_is_wanted(encoder: PromptEncoder) -> None:
    """Of a long text, the rest is not tokenized once there are as many tokens as are wanted."""
    assert len(list(encoder.encode_text("word " * 100_000, 10))) <= 2
    assert finish(encoder.encode_text("word " * 100_000, 10)) == finish(
        encoder.encode_text("word " * 10, 10)
    )


def test_tools_in_the_system_prompt(encoder: PromptEncoder, vocabulary: Vocabulary) -> None:
    """If the template does not render tools, the system prompt describes them."""
    tokens = encode(encoder, [user("Hi")], tools=[TOOL])
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
    encoder = PromptEncoder(ChatTemplate(QWEN), vocabulary, 100)
    tokens = encode(encoder, [user("Hi"), message("tool", "42")], tools=[TOOL])
    text = vocabulary.spell(tokens)
    assert "You are Qwen.\n\n# Tools\n\n<tools>\n" in text
    assert "user\n<tool_response>\n42\n</tool_response><|im_end|>" in text
    assert tokens.count(2) == 3


def test_a_template_for_tools(vocabulary: Vocabulary) -> None:
    """It takes the place of the other where a request has tools, if it renders them."""
    plain = ChatTemplate("plain {{ messages[0].content }}")
    encoder = PromptEncoder(plain, vocabulary, 100, ChatTemplate(QWEN))
    assert vocabulary.spell(encode(encoder, [user("Hi")])) == "plain Hi"
    assert "<tools>" in vocabulary.spell(encode(encoder, [user("Hi")], tools=[TOOL]))
    encoder = PromptEncoder(plain, vocabulary, 100, ChatTemplate("{{ tools }}"))
    assert vocabulary.spell(encode(encoder, [user("Hi")], tools=[TOOL])).startswith("plain")


def test_results_without_tools(encoder: PromptEncoder, vocabulary: Vocabulary) -> None:
    """Results of earlier calls are rendered the same if the request has no tools."""
    text = vocabulary.spell(encode(encoder, [user("Hi"), message("tool", "42")]))
    assert text.endswith(
        "user\n<tool_response>\n42\n</tool_response><|im_end|>\n<|im_start|>assistant\n"
    )


def test_truncation_counts_tools(encoder: PromptEncoder, vocabulary: Vocabulary) -> None:
    """Earlier messages are dropped to make room for tools. The tools stay."""
    messages = [user("First."), message("assistant", "Yes."), user("Last.")]
    alone, with_tools = len(encode(encoder, messages)), len(encode(encoder, messages, tools=[TOOL]))
    assert encode(encoder, messages, max_tokens=alone) == encode(encoder, messages)
    kept = encode(encoder, messages, tools=[TOOL], max_tokens=with_tools - 1)
    text = vocabulary.spell(kept)
    assert len(kept) < with_tools
    assert ("First." in text, "<tools>" in text, "Last." in text) == (False, True, True)


def test_absurd_tools(vocabulary: Vocabulary) -> None:
    """Tools that cannot fit are not tokenized either."""
    encoder = PromptEncoder(ChatTemplate(QWEN), vocabulary, 100)
    with pytest.raises(PromptTooLongError):
        encode(encoder, [user("Hi")], tools=[{"enum": [1] * 100_000}])


def test_prompt_without_template(encoder: PromptEncoder, vocabulary: Vocabulary) -> None:
    """A text to continue is encoded as it is, its special tokens as such."""
    tokens = finish(encoder.encode_prompt("<|im_start|>user", "prompt"))
    assert tokens == tuple(vocabulary.encode("<|im_start|>user"))


@pytest.mark.parametrize("text", ["word " * 20_000, "x" * 100_000])
def test_absurd_prompt_without_template(encoder: PromptEncoder, text: str) -> None:
    """A text that cannot fit is refused by its field, its tokens not all counted."""
    with pytest.raises(PromptTooLongError, match="at least") as raised:
        finish(encoder.encode_prompt(text, "prompt[1]"))
    assert raised.value.violations[0].field == "prompt[1]"
