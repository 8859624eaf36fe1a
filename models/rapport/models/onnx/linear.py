"""Linear layers of a graph: y = x @ matrix.T + bias for x [tokens, inputs]."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

import numpy as np
from gguf import GGMLQuantizationType
from numpy.typing import DTypeLike

from rapport.models.onnx.file import OnnxWriter
from rapport.models.onnx.precision import Weights
from rapport.models.weights.blocks import FORMATS, Floats
from rapport.models.weights.matrix import (
    FLOATS,
    NARROW_BLOCK,
    WIDE_BLOCK,
    Matrix,
    Projection,
    Quantised,
    joined,
    narrowed,
    quantised,
    widened,
)

# Of a matrix that MatMulNBits holds: bits, the size of a block, and whether blocks have offsets.
Form = tuple[int, int, bool]
WIDE: Form = (8, WIDE_BLOCK, False)
NARROW: Form = (4, NARROW_BLOCK, False)  # of floats
# For the CPU's kernels. CUDA's compute in the type of the activations.
INT8_ACTIVATIONS = {"accuracy_level": 4}


class Linears:
    """Adds linear layers to a graph.

    `element` is the type of activations and floats; `weights` is the format of matrices. With
    `quantises_floats` that is the format of matrices in floats, too.
    """

    def __init__(
        self,
        onnx: OnnxWriter,
        element: DTypeLike,
        weights: Weights,
        *,
        quantises_floats: bool = False,
    ) -> None:
        self.onnx = onnx
        self.element = np.dtype(element)
        self.target = weights
        self.quantises_floats = quantises_floats
        self.indicators: dict[tuple[int, int], str] = {}

    def add(self, x: str, *projections: Projection) -> str:
        """The outputs of all projections of x, side by side: [tokens, outputs].

        Neighbors of the same form become one node, for nodes cost time.
        """
        parts = [self._group(x, form, group) for form, group in self._grouped(projections)]
        return parts[0] if len(parts) == 1 else self.onnx.node("Concat", *parts, axis=-1)

    def _grouped(
        self, projections: Sequence[Projection]
    ) -> Iterator[tuple[Form | None, list[Projection]]]:
        kinds = {projection.matrix.kind for projection in projections}

        def form(projection: Projection) -> Form | None:
            return self.form(projection.matrix.kind, alone=len(kinds) == 1)

        for shared, group in groupby(projections, form):
            yield shared, list(group)

    def form(self, kind: GGMLQuantizationType, *, alone: bool = True) -> Form | None:
        """The form in which a matrix of this kind is stored; None for floats.

        With int8, 8-bit matrices are kept unless they stand beside others.
        """
        if self.target == "floats" or (kind in FLOATS and not self.quantises_floats):
            return None
        if kind in FLOATS:
            return NARROW if self.target == "stored" else WIDE
        kept = self.target == "stored" or (alone and kind == GGMLQuantizationType.Q8_0)
        return FORMATS[kind].form if kept else WIDE

    def _group(self, x: str, form: Form | None, group: Sequence[Projection]) -> str:
        matrices, bias = [projection.matrix for projection in group], _bias(group)
        if form is None:
            weights = [self.converted(matrix) for matrix in matrices]
            stacked = weights[0] if len(weights) == 1 else np.concatenate(weights)
            return self.floats(x, self.constant(stacked), bias)
        packed = joined([self.pack(matrix, form) for matrix in matrices])
        quants, scales = self.onnx.constant(packed.quants), self.constant(packed.scales)
        return self.packed(x, packed, quants, scales, bias=bias)

    def constant(self, floats: Floats) -> str:
        """Adds floats to the graph, in the type of its activations."""
        return self.onnx.constant(floats.astype(self.element, copy=False))

    def pack(self, matrix: Matrix, form: Form) -> Quantised:
        if matrix.kind in FLOATS or form == WIDE:
            return narrowed(matrix) if form == NARROW else widened(matrix)
        return quantised(matrix)

    def converted(self, matrix: Matrix) -> np.ndarray:
        """The weights [outputs, inputs] in floats."""
        return matrix.floats().astype(self.element, copy=False)

    def floats(self, x: str, weights: str, bias: Floats | None = None) -> str:
        return self.onnx.node("Gemm", x, weights, *self._optional(bias), transB=1)

    def packed(
        self,
        x: str,
        packed: Quantised,
        quants: str,
        scales: str,
        *,
        zero_points: str = "",
        bias: Floats | None = None,
    ) -> str:
        """The product with a packed matrix, whose tensors are in the graph already."""
        if packed.zero_points is not None and not zero_points:
            zero_points = self.onnx.constant(packed.zero_points)
        inputs = [x, quants, scales, zero_points, "", *self._optional(bias)]
        y = self.onnx.contrib(
            "MatMulNBits",
            *_without_trailing_gaps(inputs),
            K=packed.inputs,
            N=packed.outputs,
            bits=packed.bits,
            block_size=packed.block,
            **INT8_ACTIVATIONS if self.element == np.float32 else {},
        )
        if packed.offsets is None:
            return y
        # sum(x * (w + offset)) = sum(x * w) + sum(x) * offset, block by block.
        sums = self.onnx.node("MatMul", x, self._indicator(packed.inputs, packed.block))
        return self.onnx.node("Gemm", sums, self.constant(packed.offsets), y)

    def _optional(self, bias: Floats | None) -> list[str]:
        return [] if bias is None else [self.constant(bias)]

    def _indicator(self, inputs: int, block: int) -> str:
        """A matrix [inputs, blocks] with 1 where the input is in the block: it sums x by block."""
        if (inputs, block) not in self.indicators:
            blocks = np.repeat(np.eye(inputs // block, dtype=self.element), block, axis=0)
            name = f"blocks_of_{inputs}_by_{block}"
            self.indicators[inputs, block] = self.onnx.constant(blocks, name)
        return self.indicators[inputs, block]


def _bias(group: Sequence[Projection]) -> Floats | None:
    """The biases of projections side by side, zeros where one has none."""
    if all(projection.bias is None for projection in group):
        return None
    parts = [
        np.zeros(each.matrix.outputs, np.float32) if each.bias is None else each.bias
        for each in group
    ]
    return np.concatenate(parts)


def _without_trailing_gaps(inputs: Sequence[str]) -> list[str]:
    """Inputs up to the last one that is given."""
    last = max(place for place, name in enumerate(inputs) if name)
    return list(inputs[: last + 1])
