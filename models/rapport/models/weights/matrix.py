"""Converts matrices from the blocks of a GGUF file to the tensors of ONNX Runtime.

A GGUF block has weights of one row, with their scales. ONNX Runtime's MatMulNBits takes two
tensors instead: all quants, and all scales.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize
from numpy.typing import NDArray

from rapport.models.weights.blocks import FORMATS, Bytes, Floats, half

# Has half as many scales to multiply by as GGUF's blocks. With 128 the error of the activations,
# which are rounded in blocks of the same size, exceeds what a model may lose
# (docs/notes/performance.md).
WIDE_BLOCK = 64
# Of weights in 4 bits, as in most files.
NARROW_BLOCK = 32
# Matrices are converted in parts of so many weights, so that what that takes is bounded.
PART_WEIGHTS = 1 << 22
F32 = GGMLQuantizationType.F32
F16 = GGMLQuantizationType.F16
BF16 = GGMLQuantizationType.BF16
FLOATS = (F32, F16, BF16)
SUPPORTED = (*FLOATS, *FORMATS)


@dataclass(frozen=True, slots=True)
class Matrix:
    """A weight matrix [outputs, inputs] in the format of the file.

    `rows` is [outputs, bytes of a row] uint8 for a quantised kind and BF16, else
    [outputs, inputs] floats.
    """

    kind: GGMLQuantizationType
    rows: NDArray[np.generic]

    @property
    def outputs(self) -> int:
        return int(self.rows.shape[0])

    @property
    def inputs(self) -> int:
        weights, size = GGML_QUANT_SIZES[self.kind]
        return int(self.rows.shape[1] * self.rows.itemsize // size * weights)

    @property
    def finite(self) -> bool:
        """Whether every weight is a finite number."""
        if self.kind in FLOATS:
            return all(np.isfinite(part.floats()).all() for part in self.parts())
        blocks = self.blocks
        return all(np.isfinite(half(blocks, place)).all() for place in FORMATS[self.kind].halves)

    @property
    def blocks(self) -> Bytes:
        """The blocks of a quantised kind, row by row: [blocks, bytes of a block]."""
        return self.rows.view(np.uint8).reshape(-1, GGML_QUANT_SIZES[self.kind][1])

    def floats(self) -> Floats:
        """The weights as float32 [outputs, inputs]."""
        return dequantize(self.rows, self.kind).astype(np.float32, copy=False)

    def reordered(self, order: NDArray[np.intp]) -> Matrix:
        return Matrix(self.kind, self.rows[order])

    def parts(self) -> Iterator[Matrix]:
        """The matrix in parts of some rows."""
        rows = max(1, PART_WEIGHTS // self.inputs)
        for start in range(0, self.outputs, rows):
            yield Matrix(self.kind, self.rows[start : start + rows])


@dataclass(frozen=True, slots=True)
class Projection:
    """A linear layer: x @ matrix.T + bias [outputs]."""

    matrix: Matrix
    bias: Floats | None = None


@dataclass(frozen=True, slots=True)
class Quantised:
    """A matrix for MatMulNBits, which computes scale * (quant - zero point).

    `quants` is [outputs, blocks, block * bits / 8] uint8; `scales` are
    [outputs, blocks]; so are `zero_points`, packed as quants are. Without them, all are
    2 ** (bits - 1). `offsets`
    [blocks, outputs] is added to every weight of a block. `inputs` is without padding.
    """

    bits: int
    block: int
    inputs: int
    quants: Bytes
    scales: Floats
    offsets: Floats | None = None
    zero_points: Bytes | None = None

    @property
    def outputs(self) -> int:
        return int(self.quants.shape[0])


def joined(parts: Sequence[Quantised]) -> Quantised:
    """One matrix with the outputs of all, in order. They must have the same form."""
    first = parts[0]
    if len(parts) == 1:
        return first
    offsets = [part.offsets for part in parts if part.offsets is not None]
    zero_points = [part.zero_points for part in parts if part.zero_points is not None]
    return Quantised(
        first.bits,
        first.block,
        first.inputs,
        np.concatenate([part.quants for part in parts]),
        np.concatenate([part.scales for part in parts]),
        np.concatenate(offsets, axis=1) if offsets else None,
        np.concatenate(zero_points) if zero_points else None,
    )


def quantised(matrix: Matrix) -> Quantised:
    """The matrix of a quantised kind for MatMulNBits with its values unchanged."""
    return joined([_exact(part) for part in matrix.parts()])


def _exact(matrix: Matrix) -> Quantised:
    format_ = FORMATS[matrix.kind]
    unpacked = format_.unpack(matrix.blocks)
    shape = matrix.outputs, matrix.inputs // format_.group
    quants = unpacked.quants.reshape(*shape, format_.group)
    offsets = unpacked.offsets
    return Quantised(
        format_.bits,
        format_.group,
        matrix.inputs,
        _in_pairs(quants) if format_.bits == 4 else quants,  # noqa: PLR2004
        unpacked.scales.reshape(shape),
        None if offsets is None else np.ascontiguousarray(offsets.reshape(shape).T),
    )


def widened(matrix: Matrix, block: int = WIDE_BLOCK) -> Quantised:
    """The matrix in 8 bits. Each weight is off by at most half a 255th of its block's range.

    A range includes 0, which is represented exactly. The last block is padded with zeros.
    """
    return joined([_requantised(part, 8, block) for part in matrix.parts()])


def narrowed(matrix: Matrix) -> Quantised:
    """The matrix in 4 bits. Each weight is off by at most half a 15th of its block's range."""
    return joined([_requantised(part, 4, NARROW_BLOCK) for part in matrix.parts()])


def _requantised(matrix: Matrix, bits: int, block: int) -> Quantised:
    blocks = -(-matrix.inputs // block)
    padding = blocks * block - matrix.inputs
    filled = np.pad(matrix.floats(), ((0, 0), (0, padding)))
    weights = filled.reshape(matrix.outputs, blocks, block)
    lowest, highest = weights.min(-1).clip(max=0), weights.max(-1).clip(min=0)
    largest = 2**bits - 1
    scales = (highest - lowest) / np.float32(largest)
    scales[scales == 0] = 1
    zero_points = np.rint(-lowest / scales)
    quants = np.rint(weights / scales[:, :, None]) + zero_points[:, :, None]
    # Both ends of the range are rounded, so a quant may be one step outside.
    quants = quants.clip(0, largest).astype(np.uint8)
    zero_points = zero_points.astype(np.uint8)
    if bits == 4:  # noqa: PLR2004
        quants = _in_pairs(quants)
        zero_points = _in_pairs(np.pad(zero_points, ((0, 0), (0, blocks % 2))))
    return Quantised(bits, block, matrix.inputs, quants, scales, zero_points=zero_points)


def _in_pairs(quants: Bytes) -> Bytes:
    """4-bit quants [..., n] in bytes [..., n / 2], each with two of them, the lower bits first."""
    return np.asarray(quants[..., 0::2] | quants[..., 1::2] << 4, dtype=np.uint8)
