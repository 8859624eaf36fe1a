"""Converts quantised matrices from the blocks of a GGUF file to the tensors of ONNX Runtime.

A GGUF block has 32 weights of one row, with their scale. ONNX Runtime's MatMulNBits takes two
tensors instead: all quants, and all scales.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]

BLOCK = 32
# Has half as many scales to multiply by as GGUF's blocks. With 128 the error of the activations,
# which are rounded in blocks of the same size, exceeds what a model may lose
# (docs/notes/performance.md).
WIDE_BLOCK = 64
MAX_UINT8 = 255
F32 = GGMLQuantizationType.F32
F16 = GGMLQuantizationType.F16
Q4_0 = GGMLQuantizationType.Q4_0
Q4_1 = GGMLQuantizationType.Q4_1
Q8_0 = GGMLQuantizationType.Q8_0
FLOATS = (F32, F16)
SUPPORTED = (*FLOATS, Q4_0, Q4_1, Q8_0)


@dataclass(frozen=True, slots=True)
class Matrix:
    """A weight matrix [outputs, inputs] in the format of the file.

    `rows` is [outputs, bytes of a row] uint8 for a quantised kind, else [outputs, inputs] floats.
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
            return bool(np.isfinite(self.rows).all())
        blocks = self.blocks
        parts = (
            [_halves(blocks, 0), _halves(blocks, 2)] if self.kind == Q4_1 else [_halves(blocks, 0)]
        )
        return all(np.isfinite(part).all() for part in parts)

    @property
    def blocks(self) -> Bytes:
        """The rows of a quantised kind as [outputs, blocks, bytes of a block]."""
        return self.rows.view(np.uint8).reshape(self.outputs, self.inputs // BLOCK, -1)

    def floats(self) -> Floats:
        """The weights as float32 [outputs, inputs]."""
        return dequantize(self.rows, self.kind).astype(np.float32, copy=False)

    def reordered(self, order: NDArray[np.intp]) -> Matrix:
        return Matrix(self.kind, self.rows[order])


@dataclass(frozen=True, slots=True)
class Quantised:
    """A matrix for MatMulNBits, which computes scale * (quant - zero point).

    `quants` is [outputs, blocks, block * bits / 8] uint8; `scales` and `zero_points` are
    [outputs, blocks]. Without `zero_points`, all of them are 2 ** (bits - 1). `offsets`
    [blocks, outputs] is added to every weight of a block.
    """

    bits: int
    quants: Bytes
    scales: Floats
    offsets: Floats | None = None
    block: int = BLOCK
    zero_points: Bytes | None = None


def stacked(matrices: Sequence[Matrix]) -> Matrix:
    """One matrix with the outputs of all, in order; in float32 if their kinds differ."""
    kinds = {matrix.kind for matrix in matrices}
    if len(kinds) == 1:
        return Matrix(kinds.pop(), np.concatenate([matrix.rows for matrix in matrices]))
    return Matrix(F32, np.concatenate([matrix.floats() for matrix in matrices]))


def quantised(matrix: Matrix) -> Quantised | None:
    """The matrix for MatMulNBits with its values unchanged, or None if they are floats."""
    if matrix.kind not in (Q4_0, Q4_1, Q8_0):
        return None
    blocks = matrix.blocks
    scales = _halves(blocks, 0)
    if matrix.kind == Q8_0:
        return Quantised(8, blocks[:, :, 2:] ^ np.uint8(0x80), scales)
    if matrix.kind == Q4_0:
        return Quantised(4, _interleaved(blocks[:, :, 2:]), scales)
    # Q4_1 is scale * quant + minimum. An integer zero point cannot hold minimum / scale.
    offsets = np.ascontiguousarray((_halves(blocks, 2) + 8 * scales).T)
    return Quantised(4, _interleaved(blocks[:, :, 4:]), scales, offsets)


def widened(matrix: Matrix) -> Quantised:
    """The matrix in 8 bits. Each weight is off by at most half a 255th of its block's range.

    A range includes 0, which is represented exactly. The last block is padded with zeros.
    """
    blocks = -(-matrix.inputs // WIDE_BLOCK)
    padding = blocks * WIDE_BLOCK - matrix.inputs
    filled = np.pad(matrix.floats(), ((0, 0), (0, padding)))
    weights = filled.reshape(matrix.outputs, blocks, WIDE_BLOCK)
    lowest, highest = weights.min(-1).clip(max=0), weights.max(-1).clip(min=0)
    scales = (highest - lowest) / np.float32(MAX_UINT8)
    scales[scales == 0] = 1
    zero_points = np.rint(-lowest / scales)
    quants = np.rint(weights / scales[:, :, None]) + zero_points[:, :, None]
    # Both ends of the range are rounded, so a quant may be one step outside.
    quants = quants.clip(0, MAX_UINT8).astype(np.uint8)
    return Quantised(8, quants, scales, block=WIDE_BLOCK, zero_points=zero_points.astype(np.uint8))


def _halves(blocks: Bytes, start: int) -> Floats:
    """The float16 at byte `start` of every block."""
    half = np.ascontiguousarray(blocks[:, :, start : start + 2]).view(np.float16)
    return half[:, :, 0].astype(np.float32)


def _interleaved(nibbles: Bytes) -> Bytes:
    """Reorders the 4-bit quants of blocks, [..., 16] bytes.

    In GGUF, byte i has weight i in its low half and weight i + 16 in its high half; in ONNX
    Runtime it has weights 2 i and 2 i + 1.
    """
    quants = np.concatenate([nibbles & 0x0F, nibbles >> 4], axis=-1)
    return np.asarray(quants[..., 0::2] | quants[..., 1::2] << 4, dtype=np.uint8)
