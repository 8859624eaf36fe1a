"""What an import will make of a model: said before it is done."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np
from gguf import GGMLQuantizationType

from rapport.models.decoder.architecture import Architecture
from rapport.models.decoder.model import Model
from rapport.models.onnx.experts import are_widened, check_experts, expert_kinds
from rapport.models.onnx.precision import PRECISIONS, Precision
from rapport.models.weights.blocks import FORMATS
from rapport.models.weights.matrix import FLOATS, NARROW_BLOCK, WIDE_BLOCK
from rapport.models.weights.tensor import TensorInfo

MIB = 1 << 20
SCALE_BYTES = 4


def plan_lines(model_id: str, model: Model, precision: str) -> Iterator[str]:
    """What the model is, what becomes of its weights, and how large it will be.

    Raises:
        UnsupportedModelError: it has experts that cannot be computed in this precision.
    """
    check_experts(model, precision)
    architecture, tensors = model.architecture, model.source.tensors.values()
    weights = sum(tensor.inputs * tensor.outputs for tensor in tensors)
    yield (
        f"{model_id}: {model.source.architecture_name}, {architecture.layers} layers"
        f"{_experts(architecture)}, "
        f"{weights / 1e6:,.0f} million weights, context of {architecture.context_length:,} tokens"
    )
    chosen = PRECISIONS[precision]
    fates = Counter(
        (tensor.kind, _fate(model, tensor, chosen)) for tensor in tensors if len(tensor.shape) > 1
    )
    for (kind, fate), count in fates.most_common():
        yield f"  {count} matrices of {kind.name}: {fate}"
    size = _size_bytes(model, chosen) / MIB
    others = ", ".join(
        f"{_size_bytes(model, other) / MIB:,.0f} MiB in {name}"
        for name, other in PRECISIONS.items()
        if name in ("int4", "int8", "float32") and name != precision
    )
    yield f"  about {size:,.0f} MiB on disk and in memory in {precision} ({others})"


def _experts(architecture: Architecture) -> str:
    if not architecture.experts:
        return ""
    return f" of {architecture.experts} experts, {architecture.active_experts} at a time"


def _fate(model: Model, tensor: TensorInfo, precision: Precision) -> str:
    kind = tensor.kind
    if precision.weights == "floats":
        return f"converted to {precision.element}"
    if kind in FLOATS and not model.quantises_floats:
        return f"kept as {precision.element}"
    if kind in FLOATS and precision.weights == "stored":
        return f"converted to 4 bits in blocks of {NARROW_BLOCK}, token vectors to 8 bits"
    if _is_widened(model, tensor, precision):
        return f"converted to 8 bits in blocks of {WIDE_BLOCK}"
    return f"kept exactly, in {FORMATS[kind].bits} bits"


def _is_widened(model: Model, tensor: TensorInfo, precision: Precision) -> bool:
    if kinds := expert_kinds(model, tensor.name):
        return are_widened(kinds, precision.weights)
    return precision.weights == "int8" and tensor.kind != GGMLQuantizationType.Q8_0


def _size_bytes(model: Model, precision: Precision) -> int:
    """About how many bytes the weights take; matrices that are merged may take others."""
    return round(
        sum(
            tensor.inputs * tensor.outputs * _bytes_per_weight(model, tensor, precision)
            for tensor in model.source.tensors.values()
        )
    )


def _bytes_per_weight(model: Model, tensor: TensorInfo, precision: Precision) -> float:
    is_float, is_matrix = tensor.kind in FLOATS, len(tensor.shape) > 1
    if precision.weights == "floats" or (is_float and not (model.quantises_floats and is_matrix)):
        return np.dtype(precision.element).itemsize
    if is_float and precision.weights == "stored" and tensor.name != "token_embd.weight":
        return 0.5 + (SCALE_BYTES + 0.5) / NARROW_BLOCK  # with a zero point of half a byte
    if is_float or _is_widened(model, tensor, precision):
        return 1 + (SCALE_BYTES + 1) / WIDE_BLOCK  # with a zero point of a byte
    format_ = FORMATS[tensor.kind]
    scales = SCALE_BYTES * (2 if format_.has_offsets else 1)
    return format_.bits / 8 + scales / format_.group
