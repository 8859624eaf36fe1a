"""A folder's tokenizer, template and ends of a turn are read from wherever they are said."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer
from tokenizers.processors import TemplateProcessing

from rapport.models.errors import CorruptFileError, UnsupportedModelError
from rapport.models.huggingface.text import FolderText

TEMPLATE = "{{ messages[0].content }}<|im_end|>"


@pytest.fixture
def folder(tiny_folder: Callable[..., Path]) -> Path:
    return tiny_folder()


def write(folder: Path, name: str, content: Any) -> None:
    (folder / name).write_text(content if isinstance(content, str) else json.dumps(content))


def read(folder: Path, **options: Any) -> FolderText:
    return FolderText(folder, 261, **options)


@pytest.mark.parametrize("stored", [TEMPLATE, [{"name": "default", "template": TEMPLATE}]])
def test_the_template_is_a_file_or_in_the_configuration(folder: Path, stored: object) -> None:
    write(folder, "tokenizer_config.json", {"chat_template": stored, "eos_token": "<|im_end|>"})
    assert read(folder).chat_templates.default.startswith("{% for message")  # chat_template.jinja
    (folder / "chat_template.jinja").unlink()
    assert read(folder).chat_templates.default == TEMPLATE
    assert read(folder, chat_template="{{ 1 }}").chat_templates.default == "{{ 1 }}"


def test_a_folder_without_a_template_needs_one(folder: Path) -> None:
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(UnsupportedModelError, match=r"no chat template.*--chat-template FILE"):
        read(folder)


def test_ends_of_a_turn_are_those_of_all_files(folder: Path) -> None:
    """generation_config.json first, whose list may be longer; each token once."""
    write(folder, "generation_config.json", {"eos_token_id": [5, 1]})
    assert read(folder).end_tokens == [5, 1, 0]
    write(folder, "generation_config.json", {"eos_token_id": 261})
    with pytest.raises(CorruptFileError, match="eos_token_id 261 is none of 261 tokens"):
        read(folder)


def test_sampling_defaults_are_those_of_generation_config(folder: Path) -> None:
    write(folder, "generation_config.json", {"eos_token_id": 1, "top_p": 0.8, "max_length": 9})
    assert read(folder).sampling_defaults.given == {"top_p": 0.8}


@pytest.mark.parametrize("token", ["<|im_end|>", {"content": "<|im_end|>", "special": True}])
def test_special_tokens_are_texts_or_objects(folder: Path, token: object) -> None:
    write(folder, "tokenizer_config.json", {"eos_token": token, "bos_token": "<none>"})
    write(folder, "special_tokens_map.json", {"pad_token": "<|endoftext|>"})
    expected = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
    assert read(folder).special_tokens == expected


def test_a_prompt_begins_as_the_tokenizer_begins_it(folder: Path) -> None:
    """Unless the configuration says otherwise."""
    about = {"bos_token": "<|endoftext|>", "eos_token": "<|im_end|>"}
    write(folder, "tokenizer_config.json", about)
    assert not read(folder).begins_with_bos
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.post_processor = TemplateProcessing(
        single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", 0)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    assert read(folder).begins_with_bos
    write(folder, "tokenizer_config.json", about | {"add_bos_token": False})
    assert not read(folder).begins_with_bos


def test_a_tokenizer_neither_cuts_nor_pads(folder: Path) -> None:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(2)
    tokenizer.enable_padding(length=8)
    tokenizer.save(str(folder / "tokenizer.json"))
    assert len(read(folder).tokenizer.encode("abc").ids) == 3


@pytest.mark.parametrize(
    ("changes", "error", "reason"),
    [
        ({"model": {"type": "WordPiece", "vocab": {}}}, UnsupportedModelError, "model WordPiece"),
        ({"model": {"type": "Unigram", "vocab": [["a", -1]]}}, UnsupportedModelError, "Unigram"),
        ({"decoder": {"type": "Metaspace"}}, UnsupportedModelError, "decoder Metaspace is not"),
        ({"added_tokens": [{"content": []}]}, CorruptFileError, "is no tokenizer"),
        ({"added_tokens": [7]}, CorruptFileError, "is no tokenizer"),
        ({"decoder": None}, CorruptFileError, "is no tokenizer"),
        ({"model": 7}, CorruptFileError, "is no tokenizer"),
        ({"version": None, "normalizer": "x"}, CorruptFileError, "is no tokenizer"),
    ],
)
def test_tokenizers_stand_for_bytes(
    folder: Path, changes: dict[str, Any], error: type[Exception], reason: str
) -> None:
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    write(folder, "tokenizer.json", tokenizer | changes)
    with pytest.raises(error, match=reason):
        read(folder)


def test_tokens_have_embeddings(folder: Path) -> None:
    with pytest.raises(CorruptFileError, match="token 260 is none of 260 embeddings"):
        FolderText(folder, 260)
