"""The token embedding and the output layer, which often share one matrix."""

from __future__ import annotations

import numpy as np
from onnx.helper import np_dtype_to_tensor_dtype as element_type

from rapport.models.onnx.linear import WIDE, Linears
from rapport.models.weights.matrix import FLOATS, Matrix


class FloatTable:
    """Token vectors [vocab_size, hidden] in floats."""

    def __init__(self, linears: Linears, matrix: Matrix) -> None:
        self.linears = linears
        self.weights = linears.onnx.constant(linears.converted(matrix))

    def vectors(self, tokens: str) -> str:
        """The vectors [tokens, hidden] of token ids [tokens]."""
        return self.linears.onnx.node("Gather", self.weights, tokens)

    def scores(self, x: str) -> str:
        """The products [rows, vocab_size] of x [rows, hidden] with every token's vector."""
        return self.linears.floats(x, self.weights)


class QuantisedTable:
    """Token vectors in 8-bit blocks. The graph converts the rows that it looks up to floats.

    What the file has in 8 bits without offsets is exact; all else is converted as for int8.
    """

    def __init__(self, linears: Linears, matrix: Matrix) -> None:
        self.linears = linears
        form = linears.form(matrix.kind) or WIDE
        bits, _, has_offsets = form
        self.packed = linears.pack(matrix, WIDE if has_offsets or bits != 8 else form)  # noqa: PLR2004
        constant, zero_points = linears.onnx.constant, self.packed.zero_points
        self.quants = constant(self.packed.quants)
        self.scales = linears.constant(self.packed.scales)
        self.zero_points = "" if zero_points is None else constant(zero_points)

    def vectors(self, tokens: str) -> str:
        onnx, constant = self.linears.onnx, self.linears.onnx.constant
        quants = onnx.node("Gather", self.quants, tokens)  # [tokens, blocks, block]
        scales = onnx.node("Gather", self.scales, tokens)  # [tokens, blocks]
        floats = onnx.node("Sub", self._cast(quants), self._zero(tokens))
        columns = onnx.node("Unsqueeze", scales, constant(np.array([-1])))
        scaled = onnx.node("Mul", floats, columns)
        width = self.packed.scales.shape[1] * self.packed.block
        vectors = onnx.node("Reshape", scaled, constant(np.array([-1, width])))
        if width == self.packed.inputs:
            return vectors
        ends = (constant(np.array([each])) for each in (0, self.packed.inputs, 1))
        return onnx.node("Slice", vectors, *ends)

    def _cast(self, quants: str) -> str:
        # Quants and their differences are exact in 16 bits as well.
        return self.linears.onnx.node("Cast", quants, to=element_type(self.linears.element))

    def _zero(self, tokens: str) -> str:
        onnx = self.linears.onnx
        if not self.zero_points:
            return onnx.constant(np.array(128, self.linears.element))
        zeros = self._cast(onnx.node("Gather", self.zero_points, tokens))
        return onnx.node("Unsqueeze", zeros, onnx.constant(np.array([-1])))

    def scores(self, x: str) -> str:
        return self.linears.packed(
            x, self.packed, self.quants, self.scales, zero_points=self.zero_points
        )


def token_table(
    linears: Linears, matrix: Matrix, *, exact_floats: bool
) -> FloatTable | QuantisedTable:
    if exact_floats or (matrix.kind in FLOATS and not linears.quantises_floats):
        return FloatTable(linears, matrix)
    return QuantisedTable(linears, matrix)
