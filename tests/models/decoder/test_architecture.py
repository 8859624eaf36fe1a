"""An architecture is read from a file, or what is not known of it is named."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from gguf import GGMLQuantizationType

from rapport.models.decoder.architecture import Architecture, read_architecture
from rapport.models.decoder.families import FAMILIES
from rapport.models.decoder.tensors import check_tensors
from rapport.models.errors import CorruptFileError, UnsupportedModelError
from rapport.models.gguf.reader import GgufFile
from tests.models.gguf.bytes import UINT32, number
from tests.models.tiny import PARTS

MIXTURE = {"architecture": "qwen3moe"}


def read(path: Path) -> Architecture:
    source = GgufFile(path)
    architecture = read_architecture(source)
    check_tensors(source, architecture)
    return architecture


@pytest.mark.parametrize(
    ("departures", "named"),
    [
        ({"architecture": "gemma"}, "architecture gemma"),
        ({"kind": "MXFP4"}, "type MXFP4 of tensor blk.0.attn_q.weight"),
        ({"extra_tensor": "blk.0.attn_sinks.weight"}, "tensor blk.0.attn_sinks.weight"),
        ({"keys": (("rope.scaling.type", "dynamic"),)}, "rope scaling dynamic"),
        ({**MIXTURE, "keys": (("expert_shared_count", 1),)}, "qwen3moe.expert_shared_count 1"),
        ({**MIXTURE, "keys": (("expert_gating_func", 2),)}, "qwen3moe.expert_gating_func 2"),
        ({**MIXTURE, "keys": (("expert_weights_norm", False),)}, "expert_weights_norm False"),
        ({**MIXTURE, "keys": (("expert_weights_scale", 2.5),)}, "expert_weights_scale 2.5"),
        ({"keys": (("expert_count", 8), ("expert_used_count", 2))}, "tensor blk.0.ffn_down.weight"),
    ],
)
def test_what_is_not_supported_is_named(
    tiny_gguf: Callable[..., Path], departures: dict[str, str], named: str
) -> None:
    """A file that the graph could not compute is refused, with what it is that is not known."""
    with pytest.raises(UnsupportedModelError, match=f"{named}.* is not supported; known: "):
        read(tiny_gguf(**departures))


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("llama.block_count", 255, "it has 255 layers and 20 tensors"),
        ("llama.block_count", 0, "llama.block_count is 0, not from 1 to"),
        ("llama.attention.head_count", 1, "1 heads cannot share 2 of keys and values"),
        ("llama.attention.head_count", 0xFFFFFFFF, "head_count is 4294967295, not from 1 to"),
        ("llama.context_length", 1 << 21, "llama.context_length is 2097152, not from 1 to 1048576"),
        ("llama.embedding_length", 128, r"tensor .* is \(.*\), not \("),
        ("llama.feed_forward_length", 32, r"tensor .*ffn.* is \(.*\), not \("),
    ],
)
def test_sizes_must_fit(
    tiny_gguf: Callable[..., Path], key: str, value: int, expected: str
) -> None:
    """What a file says of itself must be possible, and be so of its tensors."""
    path = tiny_gguf()
    content = bytearray(path.read_bytes())
    place = content.index(number(len(key)) + key.encode()) + 8 + len(key) + len(UINT32)
    content[place : place + 4] = number(value, 4)
    path.write_bytes(content)
    with pytest.raises(CorruptFileError, match=expected):
        read(path)


def test_a_head_has_a_size_that_attention_knows(tiny_gguf: Callable[..., Path]) -> None:
    """16 heads of 4 dimensions would fit, and fail at the first prompt."""
    path = tiny_gguf()
    content = bytearray(path.read_bytes())
    key = b"llama.attention.head_count"
    place = content.index(number(len(key)) + key) + 8 + len(key) + len(UINT32)
    content[place : place + 4] = number(16, 4)
    path.write_bytes(content)
    with pytest.raises(UnsupportedModelError, match="a head of 4 dimensions is not supported"):
        read(path)


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
        read(path)


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
        read(path)


@pytest.mark.parametrize("architecture", FAMILIES)
def test_every_architecture_needs_its_tensors(
    tiny_gguf: Callable[..., Path], architecture: str
) -> None:
    """A file without one of them is named, and not served as if it were another architecture."""
    for part in PARTS[architecture]:
        name = f"blk.1.{part}"
        path = tiny_gguf(architecture=architecture, left_out=(name,))
        with pytest.raises(CorruptFileError, match=f"it has no tensor {name}"):
            read(path)


@pytest.mark.parametrize(
    ("departures", "windows"),
    [
        ({"architecture": "gemma2"}, [8, 0]),
        ({"architecture": "gemma3"}, [8, 8, 8, 8, 8, 0]),
        ({"architecture": "phi3"}, [8, 8]),
        ({"architecture": "qwen3"}, [0, 0]),
        ({"keys": (("attention.sliding_window", 128),)}, [0, 0]),
    ],
)
def test_which_layers_have_a_window(
    tiny_gguf: Callable[..., Path], departures: dict[str, Any], windows: list[int]
) -> None:
    """A window as long as the context is none."""
    architecture = read(tiny_gguf(**departures))
    found = [architecture.window_of(layer) for layer in range(architecture.layers)]
    assert found == windows


def test_no_more_experts_compute_than_there_are(tiny_gguf: Callable[..., Path]) -> None:
    with pytest.raises(CorruptFileError, match="expert_used_count is 9, not from 1 to 8"):
        read(tiny_gguf(**MIXTURE, keys=(("expert_used_count", 9),)))


def test_every_fourth_layer_of_smollm3_has_no_rotation(tiny_gguf: Callable[..., Path]) -> None:
    architecture = read(tiny_gguf(architecture="smollm3"))
    rotated = [architecture.rope_of(layer) is not None for layer in range(4)]
    assert rotated == [True, True, True, False]


@pytest.mark.parametrize(
    ("key", "value"),
    [("residual_scale", 0.0), ("attention.scale", math.nan), ("final_logit_softcapping", -1.0)],
)
def test_scales_are_numbers_that_can_be(
    tiny_gguf: Callable[..., Path], key: str, value: float
) -> None:
    with pytest.raises(CorruptFileError, match=f"granite.{key} is "):
        read(tiny_gguf(architecture="granite", keys=((key, value),)))
