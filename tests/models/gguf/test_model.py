"""A model has all that the header says, and its layers in the order of the original model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from rapport.models.decoder.chat_templates import ChatTemplates
from rapport.models.errors import UnsupportedModelError
from rapport.models.gguf.model import GgufModel
from tests.models.tiny import TEMPLATE


def test_architecture_comes_from_the_file(tiny_gguf: Callable[..., Path]) -> None:
    """Every size is read from the metadata, or from the tensors."""
    architecture = GgufModel(tiny_gguf()).architecture
    assert (architecture.layers, architecture.hidden, architecture.feed_forward) == (2, 64, 96)
    assert (architecture.heads, architecture.kv_heads, architecture.head_size) == (4, 2, 16)
    assert (architecture.context_length, architecture.vocab_size) == (128, 261)
    assert architecture.rope.frequencies[1] == 100000.0 ** (-2 / 16)


def test_end_tokens_are_the_files_and_endoftext(tiny_gguf: Callable[..., Path]) -> None:
    """The file's end of turn comes first, then <|endoftext|>, on which llama.cpp ends too."""
    assert GgufModel(tiny_gguf()).end_tokens == [1, 0]


def test_sampling_defaults_are_the_files(tiny_gguf: Callable[..., Path]) -> None:
    """What the file advises for sampling is known by the names of a request's fields."""
    keys = (("general.sampling.temp", 0.5), ("general.sampling.top_k", 20))
    advised = GgufModel(tiny_gguf(keys=keys)).sampling_defaults
    assert advised.given == {"temperature": 0.5, "top_k": 20}
    assert GgufModel(tiny_gguf()).sampling_defaults.given == {}


def test_query_rows_lose_their_interleaving(tiny_gguf: Callable[..., Path]) -> None:
    """In each head, rows 0, 2, 4 … come first and then rows 1, 3, 5 …."""
    model = GgufModel(tiny_gguf())
    raw = model.file.matrix("blk.0.attn_q.weight").floats().reshape(4, 16, 64)
    expected = np.concatenate([raw[:, 0::2], raw[:, 1::2]], axis=1).reshape(64, 64)
    projection = model.query_or_key("blk.0.attn_q", 4)
    np.testing.assert_array_equal(projection.matrix.floats(), expected)


def test_other_architectures_keep_the_order_of_rows(tiny_gguf: Callable[..., Path]) -> None:
    model = GgufModel(tiny_gguf(architecture="qwen2"))
    projection = model.query_or_key("blk.0.attn_q", 4)
    raw = model.file.matrix("blk.0.attn_q.weight").floats()
    np.testing.assert_array_equal(projection.matrix.floats(), raw)
    np.testing.assert_array_equal(projection.bias, model.file.vector("blk.0.attn_q.bias"))


def test_a_file_without_a_template_needs_one(tiny_gguf: Callable[..., Path]) -> None:
    """It is refused with what to do. A template that is given goes before that of the file."""
    path = tiny_gguf(template=None)
    with pytest.raises(UnsupportedModelError, match=r"no chat template.*--chat-template FILE"):
        GgufModel(path)
    given = ChatTemplates("{{ messages }}")
    assert GgufModel(path, given.default).chat_templates == given
    assert GgufModel(tiny_gguf(), given.default).chat_templates == given


def test_a_file_may_have_a_template_for_tools(tiny_gguf: Callable[..., Path]) -> None:
    """It is the one named `tool_use`; a template that is given replaces it as well."""
    named = {"default": TEMPLATE, "tool_use": "{{ tools }}"}
    path = tiny_gguf(template=[{"name": name, "template": text} for name, text in named.items()])
    assert GgufModel(path).chat_templates == ChatTemplates(TEMPLATE, "{{ tools }}")
    assert GgufModel(path, "{{ 1 }}").chat_templates == ChatTemplates("{{ 1 }}")
