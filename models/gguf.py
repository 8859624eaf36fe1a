"""Reading a GGUF file of the llama architecture."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFReader, ReaderTensor

from models.errors import CorruptFileError, UnsupportedModelError
from models.weights import SUPPORTED, Floats, Matrix

ARCHITECTURE = "llama"
CONTROL, USER_DEFINED = 3, 4  # token types
LAYER_NORMS = ("attn_norm", "ffn_norm")
LAYER_MATRICES = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")


@dataclass(frozen=True, slots=True)
class Architecture:
    """The sizes of a model. `rope_base` is the base of the rotary angles' frequencies."""

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_size: int
    feed_forward: int
    context_length: int
    vocab_size: int
    rope_base: float
    epsilon: float


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Byte-pair tokens by id, their types, merges by rank, and the pre-tokenizer's name."""

    tokens: list[str]
    types: list[int]
    merges: list[str]
    pre: str


class GgufFile:
    """A GGUF file, mapped into memory: tensors are read when asked for.

    Raises CorruptFileError where the file cannot be read and UnsupportedModelError where it
    holds what the graph could not compute.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.reader = GGUFReader(path)
        except (ValueError, LookupError, OverflowError, TypeError, MemoryError) as error:
            raise CorruptFileError(f"{path} is not a readable GGUF file: {error}") from error
        self.tensors = {tensor.name: tensor for tensor in self.reader.tensors}
        self.check_supported()

    def check_supported(self) -> None:
        architecture = self.value("general.architecture")
        if architecture != ARCHITECTURE:
            raise self.unsupported(f"architecture {architecture}", ARCHITECTURE)
        for name in sorted(self.tensors.keys() - self.known_tensors()):
            raise self.unsupported(f"tensor {name}", "those of a plain llama model")
        for name, tensor in self.tensors.items():
            if tensor.tensor_type not in SUPPORTED:
                kinds = ", ".join(kind.name for kind in SUPPORTED)
                raise self.unsupported(f"type {tensor.tensor_type.name} of tensor {name}", kinds)

    def known_tensors(self) -> set[str]:
        parts = LAYER_NORMS + LAYER_MATRICES
        layers = range(self.architecture.layers)
        names = {f"blk.{layer}.{part}.weight" for layer in layers for part in parts}
        return names | {"token_embd.weight", "output_norm.weight", "output.weight"}

    def unsupported(self, what: str, known: str) -> UnsupportedModelError:
        return UnsupportedModelError(f"{self.path}: {what} is not supported; known: {known}")

    def value(self, key: str, default: Any = None) -> Any:
        field = self.reader.get_field(key)
        if field is not None:
            return field.contents()
        if default is None:
            raise CorruptFileError(f"{self.path} does not say its {key}")
        return default

    @cached_property
    def architecture(self) -> Architecture:
        heads = self.value("llama.attention.head_count")
        hidden = self.value("llama.embedding_length")
        head_size = self.value("llama.attention.key_length", hidden // heads)
        self.check_rotary(head_size)
        return Architecture(
            layers=self.value("llama.block_count"),
            hidden=hidden,
            heads=heads,
            kv_heads=self.value("llama.attention.head_count_kv", heads),
            head_size=head_size,
            feed_forward=self.value("llama.feed_forward_length"),
            context_length=self.value("llama.context_length"),
            vocab_size=self.matrix("token_embd.weight").outputs,
            rope_base=self.value("llama.rope.freq_base", 10000.0),
            epsilon=self.value("llama.attention.layer_norm_rms_epsilon"),
        )

    def check_rotary(self, head_size: int) -> None:
        rotated = self.value("llama.rope.dimension_count", head_size)
        if rotated != head_size:
            raise self.unsupported(f"rotating {rotated} of {head_size} dimensions", "all")
        scaling = self.value("llama.rope.scaling.type", "none")
        if scaling != "none":
            raise self.unsupported(f"rope scaling {scaling}", "none")

    @cached_property
    def vocabulary(self) -> Vocabulary:
        model = self.value("tokenizer.ggml.model")
        if model != "gpt2":
            raise self.unsupported(f"tokenizer {model}", "gpt2")
        return Vocabulary(
            tokens=self.value("tokenizer.ggml.tokens"),
            types=self.value("tokenizer.ggml.token_type"),
            merges=self.value("tokenizer.ggml.merges"),
            pre=self.value("tokenizer.ggml.pre"),
        )

    @property
    def chat_template(self) -> str:
        return str(self.value("tokenizer.chat_template"))

    @property
    def end_tokens(self) -> list[int]:
        """The ids that end a turn: the file's own, then <|endoftext|>, as llama.cpp does."""
        ends = [int(self.value("tokenizer.ggml.eos_token_id"))]
        tokens = self.vocabulary.tokens
        if "<|endoftext|>" in tokens:
            ends.append(tokens.index("<|endoftext|>"))
        return list(dict.fromkeys(ends))

    def tensor(self, name: str) -> ReaderTensor:
        try:
            return self.tensors[name]
        except KeyError:
            raise CorruptFileError(f"{self.path} has no tensor {name}") from None

    def matrix(self, name: str) -> Matrix:
        tensor = self.tensor(name)
        return Matrix(tensor.tensor_type, tensor.data)

    def vector(self, name: str) -> Floats:
        return np.asarray(self.tensor(name).data, dtype=np.float32)

    def query_or_key(self, layer: int, part: str, heads: int) -> Matrix:
        """The matrix with its rows as they were trained.

        llama.cpp interleaves the two halves that the rotation pairs; the file is not asked to.
        """
        matrix = self.matrix(f"blk.{layer}.{part}.weight")
        rows = np.arange(matrix.outputs).reshape(heads, -1, 2)
        return matrix.reordered(rows.swapaxes(1, 2).reshape(-1))
