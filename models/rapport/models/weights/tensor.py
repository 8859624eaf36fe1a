"""What a file says of a tensor, before it is read."""

from __future__ import annotations

from dataclasses import dataclass

from gguf import GGML_QUANT_SIZES, GGMLQuantizationType


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """A tensor: its shape, outputs before inputs, and its place from the start of the data."""

    name: str
    shape: tuple[int, ...]
    kind: GGMLQuantizationType
    offset: int

    @property
    def inputs(self) -> int:
        return self.shape[-1] if self.shape else 1

    @property
    def outputs(self) -> int:
        total = 1
        for size in self.shape[:-1]:
            total *= size
        return total

    @property
    def row_bytes(self) -> int:
        weights, size = GGML_QUANT_SIZES[self.kind]
        return self.inputs // weights * size

    @property
    def size_bytes(self) -> int:
        return self.outputs * self.row_bytes
