"""The token embedding and the output layer, which often share one matrix."""

from __future__ import annotations

import numpy as np
from onnx.helper import np_dtype_to_tensor_dtype as element_type

from rapport.models.gguf.weights import Matrix, Quantised, quantised
from rapport.models.onnx.linear import Linears


class FloatTable:
    """Token vectors [vocab_size, hidden] in floats."""

    def __init__(self, linears: Linears, matrix: Matrix) -> None:
        self.linears = linears
        self.weights = linears.weights(matrix)

    def vectors(self, tokens: str) -> str:
        """The vectors [tokens, hidden] of token ids [tokens]."""
        return self.linears.onnx.node("Gather", self.weights, tokens)

    def scores(self, x: str) -> str:
        """The products [rows, vocab_size] of x [rows, hidden] with every token's vector."""
        return self.linears.floats(x, self.weights)


class QuantisedTable:
    """Token vectors in 8-bit blocks. The graph converts the rows that it looks up to floats."""

    def __init__(self, linears: Linears, matrix: Matrix, packed: Quantised) -> None:
        self.linears = linears
        self.matrix = matrix
        self.packed = packed
        self.quants = linears.onnx.constant(packed.quants)
        self.scales = linears.constant(packed.scales)

    def vectors(self, tokens: str) -> str:
        onnx = self.linears.onnx
        quants = onnx.node("Gather", self.quants, tokens)  # [tokens, blocks, 32]
        scales = onnx.node("Gather", self.scales, tokens)  # [tokens, blocks]
        # Quants and their differences are exact in 16 bits as well.
        element = element_type(self.linears.element)
        zero = onnx.constant(np.array(128, self.linears.element))
        floats = onnx.node("Sub", onnx.node("Cast", quants, to=element), zero)
        columns = onnx.node("Unsqueeze", scales, onnx.constant(np.array([-1])))
        scaled = onnx.node("Mul", floats, columns)
        return onnx.node("Reshape", scaled, onnx.constant(np.array([-1, self.matrix.inputs])))

    def scores(self, x: str) -> str:
        return self.linears.packed(x, self.matrix, self.packed, self.quants, self.scales)


def token_table(
    linears: Linears, matrix: Matrix, *, exact_floats: bool
) -> FloatTable | QuantisedTable:
    packed = None if exact_floats else quantised(matrix)
    if packed is None or packed.bits != 8:  # noqa: PLR2004
        return FloatTable(linears, matrix)
    return QuantisedTable(linears, matrix, packed)
