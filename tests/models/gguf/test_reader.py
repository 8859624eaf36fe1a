"""GGUF files are read for what they are, or refused by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFReader

from rapport.models.errors import CorruptFileError, UnsupportedModelError
from rapport.models.gguf.reader import GgufFile


def test_architecture_comes_from_the_file(tiny_gguf: Callable[..., Path]) -> None:
    """Every size is read from the metadata, or from the tensors."""
    architecture = GgufFile(tiny_gguf()).architecture
    assert (architecture.layers, architecture.hidden, architecture.feed_forward) == (2, 64, 96)
    assert (architecture.heads, architecture.kv_heads, architecture.head_size) == (4, 2, 16)
    assert (architecture.context_length, architecture.vocab_size) == (128, 261)
    assert architecture.rope_base == 100000.0


def test_end_tokens_are_the_files_and_endoftext(tiny_gguf: Callable[..., Path]) -> None:
    """The file's end of turn comes first, then <|endoftext|>, on which llama.cpp ends too."""
    assert GgufFile(tiny_gguf()).end_tokens == [1, 0]


def test_query_rows_lose_their_interleaving(tiny_gguf: Callable[..., Path]) -> None:
    """In each head, rows 0, 2, 4 … come first and then rows 1, 3, 5 …."""
    file = GgufFile(tiny_gguf())
    raw = file.matrix("blk.0.attn_q.weight").floats().reshape(4, 16, 64)
    expected = np.concatenate([raw[:, 0::2], raw[:, 1::2]], axis=1).reshape(64, 64)
    np.testing.assert_array_equal(file.query_or_key(0, "attn_q", 4).floats(), expected)


@pytest.mark.parametrize(
    ("departures", "named"),
    [
        ({"architecture": "gemma"}, "architecture gemma"),
        ({"kind": "Q5_0"}, "type Q5_0 of tensor blk.0.attn_q.weight"),
        ({"extra_tensor": "blk.0.attn_q.bias"}, "tensor blk.0.attn_q.bias"),
        ({"extra_tensor": "rope_freqs.weight"}, "tensor rope_freqs.weight"),
    ],
)
def test_what_is_not_supported_is_named(
    tiny_gguf: Callable[..., Path], departures: dict[str, str], named: str
) -> None:
    """A file that the graph could not compute is refused, with what it is that is not known."""
    with pytest.raises(UnsupportedModelError, match=f"{named}.* is not supported; known: "):
        GgufFile(tiny_gguf(**departures))


@pytest.mark.parametrize("share", [0, 0.001, 0.01, 0.1, 0.5, 0.9, 0.999])
def test_truncated_files_are_refused(tiny_gguf: Callable[..., Path], share: float) -> None:
    """A file cut off anywhere is refused, with its path."""
    path = tiny_gguf()
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(CorruptFileError, match=r"tiny\.gguf"):
        GgufFile(path)


def number(value: int, size: int = 8) -> bytes:
    return value.to_bytes(size, "little")


START = b"GGUF" + number(3, 4) + number(0)
KEY = number(1) + b"k"
LIST, UINT32, FLOAT32 = number(9, 4), number(4, 4), number(6, 4)


@pytest.mark.parametrize(
    "content",
    [
        START + number(1) + KEY + LIST + UINT32 + number(1 << 60) + number(0, 4),
        START + number(1) + KEY + LIST + (LIST + number(1)) * 2000,
        START + number(1 << 60) + KEY,
        START + number(1) + number(1 << 60) + b"k",
        START + number(1) + KEY + number(99, 4),
    ],
    ids=["a list of 2^60", "lists in lists", "2^60 keys", "a key of 2^60 bytes", "unknown type"],
)
def test_lying_files_are_refused(tmp_path: Path, content: bytes) -> None:
    """A file that claims more than is there is refused at once, whatever it claims."""
    path = tmp_path / "liar.gguf"
    path.write_bytes(content)
    with pytest.raises(CorruptFileError, match="not a readable GGUF file"):
        GgufFile(path)


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("llama.block_count", 255, "it has 255 layers and 20 tensors"),
        ("llama.block_count", 0, "llama.block_count is 0, not from 1 to"),
        ("llama.attention.head_count", 1, "1 heads cannot share 2 of keys and values"),
        ("llama.attention.head_count", 0xFFFFFFFF, "head_count is 4294967295, not from 1 to"),
        ("llama.context_length", 1 << 21, "llama.context_length is 2097152, not from 1 to 1048576"),
        ("llama.embedding_length", 128, r"tensor .* is \(.*\), not \("),
        ("llama.feed_forward_length", 32, r"tensor .*ffn.* is \(.*\), not \("),
        ("tokenizer.ggml.eos_token_id", 261, "the end token 261 is none of 261 tokens"),
    ],
)
def test_sizes_must_fit(tiny_gguf: Callable[..., Path], key: str, value: int, told: str) -> None:
    """What a file says of itself must be possible, and be so of its tensors."""
    path = tiny_gguf()
    content = bytearray(path.read_bytes())
    place = content.index(number(len(key)) + key.encode()) + 8 + len(key) + len(UINT32)
    content[place : place + 4] = number(value, 4)
    path.write_bytes(content)
    with pytest.raises(CorruptFileError, match=told):
        _ = GgufFile(path).end_tokens


def test_a_head_has_a_size_that_attention_knows(tiny_gguf: Callable[..., Path]) -> None:
    """16 heads of 4 dimensions would fit, and fail at the first prompt."""
    path = tiny_gguf()
    content = bytearray(path.read_bytes())
    key = b"llama.attention.head_count"
    place = content.index(number(len(key)) + key) + 8 + len(key) + len(UINT32)
    content[place : place + 4] = number(16, 4)
    path.write_bytes(content)
    with pytest.raises(UnsupportedModelError, match="a head of 4 dimensions is not supported"):
        GgufFile(path)


@pytest.mark.parametrize("name", ["blk.1.ffn_down.weight", "blk.0.attn_norm.weight"])
def test_weights_are_finite_numbers(tiny_gguf: Callable[..., Path], name: str) -> None:
    """One that is none is named, whatever the weights are to become."""
    path = tiny_gguf(kind="F32")
    content = bytearray(path.read_bytes())
    reader = GGUFReader(path)
    (tensor,) = [each for each in reader.tensors if each.name == name]
    content[tensor.data_offset : tensor.data_offset + 4] = np.float32(np.nan).tobytes()
    path.write_bytes(content)
    with pytest.raises(CorruptFileError, match=f"tensor {name} has weights that are no finite"):
        GgufFile(path).matrix(name)


def test_a_norm_is_of_floats(tiny_gguf: Callable[..., Path]) -> None:
    path = tiny_gguf()
    content = bytearray(path.read_bytes())
    name = b"blk.0.attn_norm.weight"
    place = content.index(number(len(name)) + name) + 8 + len(name) + 4 + 8
    content[place : place + 4] = number(GGMLQuantizationType.Q8_0, 4)
    path.write_bytes(content)
    with pytest.raises(
        UnsupportedModelError, match=r"type Q8_0 of tensor .*attn_norm.* known: F32, F16"
    ):
        GgufFile(path)


@pytest.mark.parametrize("dimensions", [0, 1])
def test_the_embedding_is_a_matrix(tiny_gguf: Callable[..., Path], dimensions: int) -> None:
    path = tiny_gguf()
    content = bytearray(path.read_bytes())
    name = b"token_embd.weight"
    place = content.index(number(len(name)) + name) + 8 + len(name)
    kind_and_offset = content[place + 4 + 16 : place + 4 + 16 + 12]
    content[place : place + 4 + 16 + 12] = (
        number(dimensions, 4) + number(64) * dimensions + kind_and_offset
    )
    path.write_bytes(content)
    with pytest.raises(CorruptFileError, match=r"tiny\.gguf"):
        GgufFile(path)


def test_values_must_be_of_their_type(tiny_gguf: Callable[..., Path]) -> None:
    """A number of layers with a point is none."""
    path = tiny_gguf()
    content = bytearray(path.read_bytes())
    key = b"llama.block_count"
    place = content.index(key) + len(key)
    content[place : place + 4] = FLOAT32
    path.write_bytes(content)
    with pytest.raises(CorruptFileError, match=r"llama\.block_count is float, not int"):
        GgufFile(path)


def test_other_files_are_refused(tmp_path: Path) -> None:
    """A file of another kind is refused."""
    path = tmp_path / "page.gguf"
    path.write_text("<html>not found</html>" * 100)
    with pytest.raises(CorruptFileError, match="not a readable GGUF file"):
        GgufFile(path)


def test_the_library_has_the_method_that_is_overridden() -> None:
    """When the pin of gguf moves: look at how GGUFReader._get is called, and at BoundedReader."""
    parameters = list(inspect.signature(GGUFReader._get).parameters)
    assert parameters == ["self", "offset", "dtype", "count", "override_order"]
    assert "self._get(" in inspect.getsource(GGUFReader.__init__)
