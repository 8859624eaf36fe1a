"""The operators that a graph may have.

They are those of decoders that onnxruntime-genai's builder makes for the CPU. None makes a tensor
of a size that a graph states in a few bytes, or has a graph of its own; `If` is taken out. Many of
them in a row can still take much memory: `Concat` doubles a tensor.
"""

from __future__ import annotations

from rapport.models.onnx.file import CONTRIB_DOMAIN

# fmt: off
_STANDARD = frozenset({
    "Add", "Cast", "Clip", "Concat", "Constant", "DequantizeLinear", "Div", "Equal", "Erf",
    "Exp", "Flatten", "Gather", "GatherElements", "Gelu", "Gemm", "Greater", "Identity", "If",
    "LayerNormalization", "Less", "MatMul", "Max", "Min", "Mul", "Neg", "Pow",
    "RMSNormalization", "Reciprocal", "ReduceMax", "ReduceMean", "ReduceSum", "Relu",
    "Reshape", "Shape", "Sigmoid", "SimplifiedLayerNormalization", "Slice", "Softmax",
    "Softplus", "Split", "Sqrt", "Squeeze", "Sub", "Tanh", "TopK", "Transpose", "Unsqueeze",
    "Where",
})
_CONTRIB = frozenset({
    "BiasGelu", "FastGelu", "FusedMatMul", "GatherBlockQuantized", "Gelu",
    "GroupQueryAttention", "MatMulNBits", "MoE", "QMoE", "QuickGelu",
    "SimplifiedLayerNormalization", "SkipLayerNormalization",
    "SkipSimplifiedLayerNormalization",
})
# fmt: on
OPERATORS = {"": _STANDARD, CONTRIB_DOMAIN: _CONTRIB}
