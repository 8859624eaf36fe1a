"""Linear layers of a graph: y = x @ matrix.T for x [tokens, inputs]."""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike

from rapport.models.gguf.weights import (
    BLOCK,
    Q4_0,
    Q4_1,
    Floats,
    Matrix,
    Quantised,
    quantised,
    widened,
)
from rapport.models.onnx.file import OnnxWriter
from rapport.models.onnx.precision import Weights

# For the CPU's kernels. CUDA's compute in the type of the activations.
INT8_ACTIVATIONS = {"accuracy_level": 4}


class Linears:
    """Adds linear layers to a graph.

    `element` is the type of activations and floats; `weights` is the format of matrices.
    """

    def __init__(self, onnx: OnnxWriter, element: DTypeLike, weights: Weights) -> None:
        self.onnx = onnx
        self.element = np.dtype(element)
        self.target = weights
        self.indicators: dict[int, str] = {}

    def add(self, x: str, matrix: Matrix) -> str:
        packed = self.pack(matrix)
        if packed is None:
            return self.floats(x, self.weights(matrix))
        quants = self.onnx.constant(packed.quants)
        scales = self.constant(packed.scales)
        return self.packed(x, matrix, packed, quants, scales)

    def pack(self, matrix: Matrix) -> Quantised | None:
        if self.target == "floats":
            return None
        if self.target == "int8" and matrix.kind in (Q4_0, Q4_1):
            return widened(matrix)
        return quantised(matrix)

    def weights(self, matrix: Matrix) -> str:
        return self.constant(matrix.floats())

    def constant(self, floats: Floats) -> str:
        """Adds floats to the graph, in the type of its activations."""
        return self.onnx.constant(floats.astype(self.element, copy=False))

    def floats(self, x: str, weights: str) -> str:
        return self.onnx.node("Gemm", x, weights, transB=1)

    def packed(self, x: str, matrix: Matrix, packed: Quantised, quants: str, scales: str) -> str:
        zero_points = [] if packed.zero_points is None else [self.onnx.constant(packed.zero_points)]
        y = self.onnx.contrib(
            "MatMulNBits",
            x,
            quants,
            scales,
            *zero_points,
            K=matrix.inputs,
            N=matrix.outputs,
            bits=packed.bits,
            block_size=packed.block,
            **INT8_ACTIVATIONS if self.element == np.float32 else {},
        )
        if packed.offsets is None:
            return y
        # sum(x * (w + offset)) = sum(x * w) + sum(x) * offset, block by block.
        sums = self.onnx.node("MatMul", x, self._indicator(matrix.inputs))
        return self.onnx.node("Gemm", sums, self.constant(packed.offsets), y)

    def _indicator(self, inputs: int) -> str:
        """A matrix [inputs, blocks] with 1 where the input is in the block: it sums x by block."""
        if inputs not in self.indicators:
            blocks = np.repeat(np.eye(inputs // BLOCK, dtype=self.element), BLOCK, axis=0)
            self.indicators[inputs] = self.onnx.constant(blocks, f"blocks_of_{inputs}")
        return self.indicators[inputs]
