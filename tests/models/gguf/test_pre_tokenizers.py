"""Pre-tokenizers cut texts as the models that they are named after."""

from __future__ import annotations

import pytest

from rapport.models.gguf.pre_tokenizers import BPE_PRE_TOKENIZERS

TEXT = "I'm HERE, isn't it? 12345 \n\n  naïveCase /x"


def words(name: str, text: str) -> list[str]:
    """The words of a text, by their places in it."""
    cut = BPE_PRE_TOKENIZERS[name].build().pre_tokenize_str(text)
    return [text[start:end] for _, (start, end) in cut]


@pytest.mark.parametrize("name", BPE_PRE_TOKENIZERS)
def test_no_letter_is_lost(name: str) -> None:
    """The words, joined, are the text, whatever its script."""
    for text in (TEXT, "東京タワー、123。 한국어!", "\t x\r\n", "ß²½ ١٢٣٤ é"):
        assert "".join(words(name, text)) == text


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("gpt-2", "I'm 12345  x", ["I", "'m", " 12345", " ", " x"]),
        ("smollm", "a 123", ["a", " ", "1", "2", "3"]),
        ("llama-bpe", "I'M 12345  x", ["I", "'M", " ", "123", "45", " ", " x"]),
        ("qwen2", "I'm 123!!\n\nx", ["I", "'m", " ", "1", "2", "3", "!!\n\n", "x"]),
        ("tekken", "HTTPServer 12", ["HTTPServer", " ", "1", "2"]),
        ("tekken", "camelCase", ["camel", "Case"]),
        ("gpt-4o", "don't 1234 a/b", ["don't", " ", "123", "4", " a", "/b"]),
        ("deepseek-v3", "x=1234 東京a", ["x", "=", "123", "4", " ", "東京", "a"]),
        ("deepseek-coder", "a 12\n", ["a", " ", "1", "2", "\n"]),
        ("deepseek-llm", "a 12 b", ["a", " ", "12", " b"]),
        ("falcon", "a 1234, b", ["a", " ", "123", "4", ",", " b"]),
    ],
)
def test_words(name: str, text: str, expected: list[str]) -> None:
    assert words(name, text) == expected
