"""The feed-forward layers of a mixture of experts, by the operators MoE and QMoE.

A router scores the experts for each token. The best of them compute, and what they give is added up
by the softmax of their scores.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from gguf import GGMLQuantizationType
from numpy.typing import NDArray

from rapport.models.decoder.families import EXPERT_MATRICES
from rapport.models.decoder.model import Model
from rapport.models.onnx.file import OnnxWriter
from rapport.models.onnx.linear import INT8_ACTIVATIONS, Linears
from rapport.models.onnx.precision import PRECISIONS, Weights
from rapport.models.weights.blocks import FORMATS
from rapport.models.weights.matrix import FLOATS, WIDE_BLOCK, Matrix, Quantised, quantised, widened

# The operators want the rows of gate and up in turn, as one matrix.
SILU_OF_GATE_TIMES_UP: Mapping[str, float | str] = {
    "activation_type": "swiglu",
    "swiglu_fusion": 1,
    "activation_alpha": 1.0,
    "activation_beta": 0.0,
}


def check_experts(model: Model, precision: str) -> None:
    """Checks that the experts of a model, if it has any, can be computed in a precision.

    Raises:
        UnsupportedModelError: they cannot.
    """
    if model.architecture.experts and PRECISIONS[precision].element != "float32":
        known = [name for name, each in PRECISIONS.items() if each.element == "float32"]
        raise model.source.unsupported(f"a mixture of experts in {precision}", known)


def matrix_names(prefix: str) -> list[str]:
    """The names of a layer's matrices of experts."""
    return [f"{prefix}{part}" for part in EXPERT_MATRICES]


def expert_kinds(model: Model, name: str) -> set[GGMLQuantizationType]:
    """The kinds of a layer's experts, if the tensor of this name is of them; else none."""
    names = matrix_names(name[: name.rfind(".ffn_") + 1])
    return {model.source.tensor(each).kind for each in names} if name in names else set()


def are_widened(kinds: set[GGMLQuantizationType], target: Weights) -> bool:
    """Whether experts of these kinds are converted to 8 bits, with the weights of a precision.

    QMoE has one form for all of a layer, and no offsets.
    """
    if target == "floats" or kinds & set(FLOATS):
        return False
    if target == "int8":
        return kinds != {GGMLQuantizationType.Q8_0}
    forms = {FORMATS[kind].form for kind in kinds}
    return len(forms) > 1 or any(FORMATS[kind].has_offsets for kind in kinds)


class Experts:
    """Adds the experts of layers to a graph."""

    def __init__(self, model: Model, onnx: OnnxWriter, linears: Linears) -> None:
        self.source = model.source
        self.arch = model.architecture
        self.onnx = onnx
        self.linears = linears

    def add(self, prefix: str, x: str) -> str:
        """The output [tokens, hidden] of a layer's experts for x [tokens, hidden]."""
        matrices = [self.source.matrix(name) for name in matrix_names(prefix)]
        router = self.source.matrix(f"{prefix}ffn_gate_inp.weight").floats()
        scores = self.linears.floats(x, self.linears.constant(router))
        if self.linears.target == "floats" or any(each.kind in FLOATS for each in matrices):
            return self._floats(x, scores, matrices)
        return self._quantised(x, scores, matrices)

    def _floats(self, x: str, scores: str, matrices: list[Matrix]) -> str:
        first, second = self._arrays([matrix.floats() for matrix in matrices])
        return self.onnx.contrib("MoE", x, scores, first, "", second, **self._options())

    def _quantised(self, x: str, scores: str, matrices: list[Matrix]) -> str:
        packed = self._packed(matrices)
        quants = self._arrays([each.quants for each in packed])
        scales = self._arrays([each.scales for each in packed])
        inputs = [x, scores, quants[0], scales[0], "", quants[1], scales[1]]
        zero_points = [each.zero_points for each in packed if each.zero_points is not None]
        if zero_points:
            # In between are a bias, and a matrix of which there is none.
            inputs += ["", "", "", "", *self._arrays(zero_points)]
        return self.onnx.contrib(
            "QMoE",
            *inputs,
            **self._options(),
            **INT8_ACTIVATIONS,
            expert_weight_bits=packed[0].bits,
            block_size=packed[0].block,
        )

    def _packed(self, matrices: list[Matrix]) -> list[Quantised]:
        if are_widened({matrix.kind for matrix in matrices}, self.linears.target):
            # QMoE pads no block. Rows of quantised kinds are multiples of 32.
            block = math.gcd(self.arch.hidden, self.arch.feed_forward, WIDE_BLOCK)
            return [widened(matrix, block) for matrix in matrices]
        return [quantised(matrix) for matrix in matrices]

    def _arrays(self, gate_up_down: Sequence[NDArray[np.generic]]) -> list[str]:
        """Adds what is [experts * outputs, ...] of each matrix to the graph.

        Returns the names of gate and up as one, [experts, 2 * outputs, ...], and of down.
        """
        apart = [
            array.reshape(self.arch.experts, len(array) // self.arch.experts, -1)
            for array in gate_up_down
        ]
        in_turn = np.stack(apart[:2], axis=2).reshape(self.arch.experts, -1, apart[0].shape[-1])
        return [self.onnx.constant(in_turn), self.onnx.constant(apart[2])]

    def _options(self) -> dict[str, float | str]:
        # What is left of the softmax over all experts, normalised, is that over the best.
        best = {"k": self.arch.active_experts, "normalize_routing_weights": 1}
        return {**best, **SILU_OF_GATE_TIMES_UP}
