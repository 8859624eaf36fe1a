"""Changes a graph to a KV cache in int8, which takes a quarter of the memory of float32.

GroupQueryAttention stores round(x / scale). The scales are constants of the graph, one for each
channel of a head. They are measured beforehand by running the model over a text.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime as ort
from onnx import ModelProto, TensorProto, helper, numpy_helper
from tokenizers import Tokenizer

from rapport.models.decoder.architecture import Architecture
from rapport.models.errors import UnsupportedModelError
from rapport.models.onnx.names import INPUTS, OUTPUTS
from rapport.models.weights.blocks import Floats

CALIBRATION_TEXT = Path(__file__).with_name("calibration.txt")
MAX_INT8 = 127
HEADROOM = 1.1  # for larger values of other texts; those beyond it are clipped
# Positions among the inputs and outputs of GroupQueryAttention.
PASTS, PRESENTS, FIRST_SCALE = slice(3, 5), slice(1, 3), 12


def cache_scales(graph: Path, tokenizer: Tokenizer, arch: Architecture) -> dict[str, Floats]:
    """The scales [kv_heads, head_size] of each past of a graph with a float32 cache, by name.

    Runs the graph over the calibration text, or as much of it as fits the context.

    Raises:
        UnsupportedModelError: no part of the text has a token in the vocabulary.
    """
    text = CALIBRATION_TEXT.read_text(encoding="utf-8")
    ids = tokenizer.encode(text, add_special_tokens=False).ids[: arch.context_length]
    if not ids:
        raise UnsupportedModelError("keys and values cannot be measured: no text has any token")
    session = ort.InferenceSession(graph, providers=["CPUExecutionProvider"])
    feeds = {
        "input_ids": np.array([ids], np.int64),
        "seqlens_k": np.array([len(ids) - 1], np.int32),
        "total_sequence_length": np.array(len(ids), np.int32),
        "logit_rows": np.array([], np.int64),
    }
    names = {
        INPUTS[f"past_{part}"].format(layer=layer): OUTPUTS[f"present_{part}"].format(layer=layer)
        for part in ("key", "value")
        for layer in range(arch.layers)
    }
    empty = np.zeros((1, arch.kv_heads, len(ids), arch.head_size), np.float32)
    tokens = session.run([*names.values()], feeds | dict.fromkeys(names, empty))
    keys, values = tokens[: arch.layers], tokens[arch.layers :]
    largest = [rotated_peaks(each[0]) for each in keys] + [
        np.abs(each[0]).max(1) for each in values
    ]
    return {name: scale_of(each) for name, each in zip(names, largest, strict=True)}


def scale_of(largest: Floats) -> Floats:
    """The scale of each channel, from its largest absolute value."""
    # The scale must not be zero, even for a channel that always is.
    scale: Floats = np.maximum(largest * (HEADROOM / MAX_INT8), np.finfo(np.float32).tiny)
    return scale.astype(np.float32)


def rotated_peaks(keys: Floats) -> Floats:
    """The largest absolute value of each channel at any position, [kv_heads, head_size].

    Positions after the text's end rotate a pair of channels further, but its length stays the same.
    """
    half = keys.shape[-1] // 2
    lengths = np.hypot(keys[..., :half], keys[..., half:]).max(1)
    return np.concatenate([lengths, lengths], -1)


def with_int8_cache(model: ModelProto, scales: dict[str, Floats]) -> ModelProto:
    """The graph with its past and present in int8."""
    quantised = ModelProto()
    quantised.CopyFrom(model)
    caches: set[str] = set()
    for node in quantised.graph.node:
        if node.op_type == "GroupQueryAttention":
            caches |= {*node.input[PASTS], *node.output[PRESENTS]}
            scaled = [f"{past}.scale" for past in node.input[PASTS]]
            node.input.extend([""] * (FIRST_SCALE - len(node.input)) + scaled)
            attributes = {"k_quant_type": "PER_CHANNEL", "v_quant_type": "PER_CHANNEL"}
            for name, value in {**attributes, "kv_cache_bit_width": 8}.items():
                node.attribute.append(helper.make_attribute(name, value))
    for past, scale in scales.items():
        quantised.graph.initializer.append(numpy_helper.from_array(scale.ravel(), f"{past}.scale"))
    for value in [*quantised.graph.input, *quantised.graph.output]:
        if value.name in caches:
            value.type.tensor_type.elem_type = TensorProto.INT8
    return quantised
