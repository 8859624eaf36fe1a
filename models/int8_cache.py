"""A cache of keys and values in int8, a quarter of what float32 takes.

GroupQueryAttention stores round(x / scale). The scales are constants of the graph, one for each
channel of a head, so they are taken beforehand from what the model makes of a text.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime as ort
from onnx import ModelProto, TensorProto, helper, numpy_helper
from tokenizers import Tokenizer

from models.gguf import Architecture
from models.weights import Floats

CALIBRATION_TEXT = Path(__file__).with_name("calibration.txt")
HIGHEST = 127
HEADROOM = 1.1  # for what other texts make of a channel; beyond it, values are clipped
# The inputs of GroupQueryAttention, by their places.
PAST_KEY, PAST_VALUE, KEY_SCALE = 3, 4, 12


def cache_scales(graph: Path, tokenizer: Tokenizer, arch: Architecture) -> dict[str, Floats]:
    """The scales [kv_heads, head_size] of each past of a graph with a float32 cache, by name.

    Runs the graph over the calibration text, or as much of it as the context holds.
    """
    text = CALIBRATION_TEXT.read_text(encoding="utf-8")
    ids = tokenizer.encode(text, add_special_tokens=False).ids[: arch.context_length]
    session = ort.InferenceSession(graph, providers=["CPUExecutionProvider"])
    feeds = {
        "input_ids": np.array([ids], np.int64),
        "seqlens_k": np.array([len(ids) - 1], np.int32),
        "total_sequence_length": np.array(len(ids), np.int32),
        "logit_rows": np.array([], np.int64),
    }
    names = [entry.name for entry in session.get_inputs() if entry.name not in feeds]
    nothing = np.zeros((1, arch.kv_heads, len(ids), arch.head_size), np.float32)
    presents = [name.replace("past_key_values", "present") for name in names]
    tokens = session.run(presents, feeds | dict.fromkeys(names, nothing))
    return {name: scale_of(name, each[0]) for name, each in zip(names, tokens, strict=True)}


def scale_of(name: str, tokens: Floats) -> Floats:
    """The scales [kv_heads, head_size] for keys or values [kv_heads, tokens, head_size]."""
    largest = rotated_peaks(tokens) if name.endswith("key") else np.abs(tokens).max(1)
    # A channel that is always zero may have any scale but zero.
    scale: Floats = np.maximum(largest * (HEADROOM / HIGHEST), np.finfo(np.float32).tiny)
    return scale.astype(np.float32)


def rotated_peaks(keys: Floats) -> Floats:
    """How large each channel can become at any position, [kv_heads, head_size].

    A later position turns a pair of channels further than the text does; the pair's length stays.
    """
    half = keys.shape[-1] // 2
    lengths = np.hypot(keys[..., :half], keys[..., half:]).max(1)
    return np.concatenate([lengths, lengths], -1)


def with_int8_cache(model: ModelProto, scales: dict[str, Floats]) -> ModelProto:
    """The graph with its past and present in int8."""
    quantised = ModelProto()
    quantised.CopyFrom(model)
    for node in quantised.graph.node:
        if node.op_type == "GroupQueryAttention":
            pasts = [node.input[PAST_KEY], node.input[PAST_VALUE]]
            node.input.extend([""] * (KEY_SCALE - len(node.input)))
            node.input.extend(f"{past}.scale" for past in pasts)
            attributes = {"k_quant_type": "PER_CHANNEL", "v_quant_type": "PER_CHANNEL"}
            for name, value in {**attributes, "kv_cache_bit_width": 8}.items():
                node.attribute.append(helper.make_attribute(name, value))
    for past, scale in scales.items():
        quantised.graph.initializer.append(numpy_helper.from_array(scale.ravel(), f"{past}.scale"))
    caches = scales.keys() | {past.replace("past_key_values", "present") for past in scales}
    for value in [*quantised.graph.input, *quantised.graph.output]:
        if value.name in caches:
            value.type.tensor_type.elem_type = TensorProto.INT8
    return quantised
