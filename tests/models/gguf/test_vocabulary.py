"""What a file says of its tokens: special ones, ends of a turn, the beginning of a prompt."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from gguf import GGUFWriter

from rapport.models.decoder.chat_templates import ChatTemplates
from rapport.models.errors import CorruptFileError, UnsupportedModelError
from rapport.models.gguf.reader import GgufFile
from rapport.models.gguf.vocabulary import (
    Vocabulary,
    begins_with_bos,
    end_tokens,
    read_vocabulary,
    special_tokens,
)

TOKENS = ["<s>", "</s>", "<|eot_id|>", "<end_of_turn>", "<|im_end|>", "<|endoftext|>", "a"]
TYPES = [3, 3, 3, 4, 1, 3, 1]


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., GgufFile]:
    """Writes a file that has a vocabulary and no more, with these keys of it besides."""

    def write(**keys: Any) -> GgufFile:
        path = tmp_path / "vocabulary.gguf"
        writer = GGUFWriter(path, "llama")
        usual = {"model": "gpt2", "pre": "gpt-2", "tokens": TOKENS, "token_type": TYPES}
        usual |= {"merges": ["a a"], "eos_token_id": 1}
        for key, value in {**usual, **keys}.items():
            kinds = {bool: "bool", int: "uint32", str: "string", list: "array"}
            getattr(writer, f"add_{kinds[type(value)]}")(f"tokenizer.ggml.{key}", value)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.close()
        return GgufFile(path)

    return write


def read(file: GgufFile) -> Vocabulary:
    return read_vocabulary(file, len(TOKENS))


def ends(file: GgufFile, template: str) -> list[str]:
    vocabulary = read(file)
    templates = ChatTemplates(template)
    return [vocabulary.tokens[id_] for id_ in end_tokens(file, vocabulary, templates)]


def test_ends_are_those_of_the_file_and_of_the_template(
    written: Callable[..., GgufFile],
) -> None:
    """A control token that the template writes ends a turn; a normal token of its name does not."""
    template = "{{ '<end_of_turn>' }}<|im_end|>"
    assert ends(written(), "") == ["</s>", "<|endoftext|>"]
    assert ends(written(), template) == ["</s>", "<end_of_turn>", "<|endoftext|>"]
    assert ends(written(eot_token_id=2), "") == ["</s>", "<|eot_id|>", "<|endoftext|>"]
    assert ends(written(eot_token_id=1), "") == ["</s>", "<|endoftext|>"]


def test_an_end_is_a_token(written: Callable[..., GgufFile]) -> None:
    with pytest.raises(CorruptFileError, match="the end token 7 is none of 7 tokens"):
        ends(written(eos_token_id=7), "")


def test_special_tokens_have_names(written: Callable[..., GgufFile]) -> None:
    file = written(bos_token_id=0)
    assert special_tokens(file, read(file)) == {"bos_token": 0, "eos_token": 1}


@pytest.mark.parametrize(
    ("keys", "begins"),
    [
        ({}, False),
        ({"bos_token_id": 0}, False),
        ({"bos_token_id": 0, "add_bos_token": True}, True),
        ({"add_bos_token": True}, False),
        ({"bos_token_id": 0, "pre": "llama-bpe"}, True),
        ({"bos_token_id": 0, "pre": "llama-bpe", "add_bos_token": False}, False),
    ],
)
def test_prompts_begin_with_bos_as_the_file_says(
    written: Callable[..., GgufFile], keys: dict[str, Any], *, begins: bool
) -> None:
    """Or, where it says nothing, as the family does."""
    file = written(**keys)
    assert begins_with_bos(file, read(file)) is begins


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        ({"model": "bert"}, "tokenizer bert is not supported; known: gpt2, llama"),
        ({"pre": "nonesuch"}, "pre-tokenizer nonesuch is not supported; known: gpt-2, "),
    ],
)
def test_unknown_tokenizers_are_named(
    written: Callable[..., GgufFile], keys: dict[str, Any], reason: str
) -> None:
    with pytest.raises(UnsupportedModelError, match=reason):
        read(written(**keys))


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        ({"token_type": [1]}, "7 tokens have 1 types and 7 embeddings"),
        ({"tokens": ["a"] * 7}, "a token is there twice"),
        ({"model": "llama", "scores": [1.0]}, "7 tokens have 1 scores"),
    ],
)
def test_tokens_must_fit(
    written: Callable[..., GgufFile], keys: dict[str, Any], reason: str
) -> None:
    with pytest.raises(CorruptFileError, match=reason):
        read(written(**keys))
