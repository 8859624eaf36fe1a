"""Reads GGUF files of the llama architecture."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from gguf import GGUFReader, ReaderTensor

from rapport.models.errors import CorruptFileError, UnsupportedModelError
from rapport.models.gguf.weights import FLOATS, SUPPORTED, Floats, Matrix

ARCHITECTURE = "llama"
# Larger than any dimension or count of a real model.
MAX_DIMENSION = 1 << 24
# The graph has a table of rotary angles with a row for each token of the context.
MAX_CONTEXT_TOKENS = 1 << 20
# GroupQueryAttention needs a head's size to be a multiple of this.
HEAD_SIZE_MULTIPLE = 8
CONTROL, USER_DEFINED = 3, 4  # token types
T = TypeVar("T")
LAYER_NORMS = ("attn_norm", "ffn_norm")
LAYER_MATRICES = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")


@dataclass(frozen=True, slots=True)
class Architecture:
    """The dimensions of a model. `rope_base` is the base of the frequencies of rotary angles."""

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


class BoundedReader(GGUFReader):
    """The library's reader, which also checks that nothing is read beyond the end of the file.

    It overrides a private method, so pyproject.toml allows one minor version of gguf only.
    """

    def _get(self, offset: int, dtype: Any, count: int = 1, *order: Any, **orders: Any) -> Any:
        end = int(offset) + np.dtype(dtype).itemsize * int(count)
        if not 0 <= offset <= end <= len(self.data):
            raise ValueError("it ends where more should follow")
        return super()._get(offset, dtype, count, *order, **orders)


class GgufFile:
    """A GGUF file, mapped into memory. Tensors are read on access.

    Raises:
        CorruptFileError: the file is damaged. Also raised on access.
        UnsupportedModelError: it has something that the graph cannot compute. Likewise.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.reader = BoundedReader(path)
        except OSError:
            raise
        except Exception as error:  # the library checks little, so damage leads to any exception
            raise CorruptFileError(f"{path} is not a readable GGUF file: {error}") from error
        self.tensors = {tensor.name: tensor for tensor in self.reader.tensors}
        self._check_supported()
        self._check_shapes()

    def _check_supported(self) -> None:
        architecture = self.value("general.architecture", str)
        if architecture != ARCHITECTURE:
            raise self._unsupported(f"architecture {architecture}", ARCHITECTURE)
        for name in sorted(self.tensors.keys() - self._known_tensors()):
            raise self._unsupported(f"tensor {name}", "those of a plain llama model")
        for name, tensor in self.tensors.items():
            known = SUPPORTED if len(_shape_of(tensor)) > 1 else FLOATS
            if tensor.tensor_type not in known:
                kinds = ", ".join(kind.name for kind in known)
                raise self._unsupported(f"type {tensor.tensor_type.name} of tensor {name}", kinds)

    def _check_shapes(self) -> None:
        """Checks that every tensor has the shape that the graph assumes."""
        expected = _shapes(self.architecture)
        for name, tensor in self.tensors.items():
            shape = _shape_of(tensor)
            part = name.removesuffix(".weight").rpartition(".")[2]
            if shape != expected[part]:
                raise self._corrupt(f"tensor {name} is {shape}, not {expected[part]}")

    def _known_tensors(self) -> set[str]:
        parts = LAYER_NORMS + LAYER_MATRICES
        layers = range(self.architecture.layers)
        names = {f"blk.{layer}.{part}.weight" for layer in layers for part in parts}
        return names | {"token_embd.weight", "output_norm.weight", "output.weight"}

    def _unsupported(self, what: str, known: str) -> UnsupportedModelError:
        return UnsupportedModelError(f"{self.path}: {what} is not supported; known: {known}")

    def _corrupt(self, what: str) -> CorruptFileError:
        return CorruptFileError(f"{self.path}: {what}")

    def value(self, key: str, kind: type[T], default: T | None = None) -> T:
        """The value of a key, of the given type."""
        field = self.reader.get_field(key)
        try:
            value = default if field is None else field.contents()
        except ValueError as error:  # text that is not UTF-8
            raise self._corrupt(f"{key} is {error}") from error
        if value is None:
            raise CorruptFileError(f"{self.path} does not say its {key}")
        if not isinstance(value, kind):
            raise self._corrupt(f"{key} is {type(value).__name__}, not {kind.__name__}")
        return value

    def values(self, key: str, kind: type[T]) -> list[T]:
        """The list of a key, with items of the given type."""
        found = self.value(key, list)
        if not all(isinstance(item, kind) for item in found):
            raise self._corrupt(f"{key} is no list of {kind.__name__}")
        return found

    def count(self, key: str, default: int | None = None, maximum: int = MAX_DIMENSION) -> int:
        number = self.value(key, int, default)
        if not 0 < number <= maximum:
            raise self._corrupt(f"{key} is {number}, not from 1 to {maximum}")
        return number

    def _positive(self, key: str, default: float | None = None) -> float:
        number = self.value(key, float, default)
        if not 0 < number < math.inf:
            raise self._corrupt(f"{key} is {number}, not a positive number")
        return number

    @cached_property
    def architecture(self) -> Architecture:
        heads = self.count("llama.attention.head_count")
        hidden = self.count("llama.embedding_length")
        head_size = self.count("llama.attention.key_length", hidden // heads)
        self._check_rotary(head_size)
        return Architecture(
            layers=self.layers,
            hidden=hidden,
            heads=heads,
            kv_heads=self.kv_heads(heads),
            head_size=head_size,
            feed_forward=self.count("llama.feed_forward_length"),
            context_length=self.count("llama.context_length", maximum=MAX_CONTEXT_TOKENS),
            vocab_size=self.vocab_size,
            rope_base=self._positive("llama.rope.freq_base", 10000.0),
            epsilon=self._positive("llama.attention.layer_norm_rms_epsilon"),
        )

    @property
    def layers(self) -> int:
        layers = self.count("llama.block_count")
        if layers > len(self.tensors):
            raise self._corrupt(f"it has {layers} layers and {len(self.tensors)} tensors")
        return layers

    @property
    def vocab_size(self) -> int:
        shape = _shape_of(self.tensor("token_embd.weight"))
        if len(shape) != 2:  # noqa: PLR2004 - a matrix
            raise self._corrupt(f"tensor token_embd.weight is {shape}, not a matrix")
        return shape[0]

    def kv_heads(self, heads: int) -> int:
        kv_heads = self.count("llama.attention.head_count_kv", heads)
        if heads % kv_heads:
            raise self._corrupt(f"{heads} heads cannot share {kv_heads} of keys and values")
        return kv_heads

    def _check_rotary(self, head_size: int) -> None:
        if head_size % HEAD_SIZE_MULTIPLE:
            known = f"multiples of {HEAD_SIZE_MULTIPLE}"
            raise self._unsupported(f"a head of {head_size} dimensions", known)
        rotated = self.value("llama.rope.dimension_count", int, head_size)
        if rotated != head_size:
            raise self._unsupported(f"rotating {rotated} of {head_size} dimensions", "all")
        scaling = self.value("llama.rope.scaling.type", str, "none")
        if scaling != "none":
            raise self._unsupported(f"rope scaling {scaling}", "none")

    @cached_property
    def vocabulary(self) -> Vocabulary:
        model = self.value("tokenizer.ggml.model", str)
        if model != "gpt2":
            raise self._unsupported(f"tokenizer {model}", "gpt2")
        tokens = self.values("tokenizer.ggml.tokens", str)
        types = self.values("tokenizer.ggml.token_type", int)
        if len(types) != len(tokens) or len(tokens) > self.architecture.vocab_size:
            sizes = f"{len(types)} types and {self.architecture.vocab_size} embeddings"
            raise self._corrupt(f"{len(tokens)} tokens have {sizes}")
        return Vocabulary(
            tokens=tokens,
            types=types,
            merges=self.values("tokenizer.ggml.merges", str),
            pre=self.value("tokenizer.ggml.pre", str),
        )

    @property
    def chat_template(self) -> str:
        return self.value("tokenizer.chat_template", str)

    @property
    def end_tokens(self) -> list[int]:
        """The ids that end a turn: the file's own, then <|endoftext|>, as llama.cpp does."""
        tokens = self.vocabulary.tokens
        ends = [self.value("tokenizer.ggml.eos_token_id", int)]
        if not 0 <= ends[0] < len(tokens):
            raise self._corrupt(f"the end token {ends[0]} is none of {len(tokens)} tokens")
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
        matrix = Matrix(tensor.tensor_type, tensor.data)
        if not matrix.finite:
            raise self._corrupt(f"tensor {name} has weights that are no finite numbers")
        return matrix

    def vector(self, name: str) -> Floats:
        return self.matrix(name).floats()

    def query_or_key(self, layer: int, part: str, heads: int) -> Matrix:
        """The matrix of queries or keys, with its rows in the order of the original model.

        In GGUF files, llama.cpp has interleaved the two halves of a head that the rotation pairs.
        """
        matrix = self.matrix(f"blk.{layer}.{part}.weight")
        rows = np.arange(matrix.outputs).reshape(heads, -1, 2)
        return matrix.reordered(rows.swapaxes(1, 2).reshape(-1))


def _shape_of(tensor: ReaderTensor) -> tuple[int, ...]:
    """The shape of a tensor, outputs before inputs."""
    return tuple(reversed(tensor.shape.tolist()))


def _shapes(architecture: Architecture) -> dict[str, tuple[int, ...]]:
    """The shapes of tensors, outputs before inputs, by the last part of their names."""
    hidden, feed_forward = architecture.hidden, architecture.feed_forward
    heads = architecture.heads * architecture.head_size
    kv_heads = architecture.kv_heads * architecture.head_size
    vectors = dict.fromkeys((*LAYER_NORMS, "output_norm"), (hidden,))
    return {
        **vectors,
        "token_embd": (architecture.vocab_size, hidden),
        "output": (architecture.vocab_size, hidden),
        "attn_q": (heads, hidden),
        "attn_k": (kv_heads, hidden),
        "attn_v": (kv_heads, hidden),
        "attn_output": (hidden, heads),
        "ffn_gate": (feed_forward, hidden),
        "ffn_up": (feed_forward, hidden),
        "ffn_down": (hidden, feed_forward),
    }
