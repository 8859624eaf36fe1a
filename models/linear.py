"""Matrices as nodes: each gives y = x @ matrix.T for x [tokens, inputs]."""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike

from models.onnx_file import OnnxWriter
from models.weights import BLOCK, Matrix, Quantised, quantised


class Linears:
    """Adds linear layers to a graph.

    `element` is the type of the activations. With `exact_floats` every matrix becomes floats of
    that type; otherwise quantised ones stay quantised.
    """

    def __init__(self, onnx: OnnxWriter, element: DTypeLike, *, exact_floats: bool) -> None:
        self.onnx = onnx
        self.element = np.dtype(element)
        self.exact_floats = exact_floats
        self.indicators: dict[int, str] = {}

    def add(self, x: str, matrix: Matrix) -> str:
        packed = None if self.exact_floats else quantised(matrix)
        if packed is None:
            return self.floats(x, self.weights(matrix))
        quants = self.onnx.constant(packed.quants)
        scales = self.onnx.constant(packed.scales)
        return self.packed(x, matrix, packed, quants, scales)

    def weights(self, matrix: Matrix) -> str:
        return self.onnx.constant(matrix.floats().astype(self.element, copy=False))

    def floats(self, x: str, weights: str) -> str:
        return self.onnx.node("Gemm", x, weights, transB=1)

    def packed(self, x: str, matrix: Matrix, packed: Quantised, quants: str, scales: str) -> str:
        y = self.onnx.contrib(
            "MatMulNBits",
            x,
            quants,
            scales,
            K=matrix.inputs,
            N=matrix.outputs,
            bits=packed.bits,
            block_size=BLOCK,
            accuracy_level=4,  # int8 activations
        )
        if packed.offsets is None:
            return y
        # sum(x * (w + offset)) = sum(x * w) + sum(x) * offset, block by block.
        sums = self.onnx.node("MatMul", x, self.indicator(matrix.inputs))
        return self.onnx.node("Gemm", sums, self.onnx.constant(packed.offsets), y)

    def indicator(self, inputs: int) -> str:
        """[inputs, blocks], 1 where the input is of the block: x @ it sums x over each block."""
        if inputs not in self.indicators:
            blocks = np.repeat(np.eye(inputs // BLOCK, dtype=self.element), BLOCK, axis=0)
            self.indicators[inputs] = self.onnx.constant(blocks, f"blocks_of_{inputs}")
        return self.indicators[inputs]
