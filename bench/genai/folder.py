"""A model folder in the form that onnxruntime-genai reads: the same weights, other inputs.

genai gives an attention mask in place of lengths, and wants the last token's logits of every
sequence. A dozen nodes before and behind our graph make the one of the other.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import orjson
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper

OURS = ("seqlens_k", "total_sequence_length", "logit_rows")
CONSTANTS: dict[str, Any] = {"axis": np.array([1]), "zero": np.array(0), "one": np.array(1)}
# Output, operation, inputs, attributes.
LENGTHS: tuple[tuple[str, str, tuple[str, ...], dict[str, Any]], ...] = (
    ("tokens", "ReduceSum", ("attention_mask", "axis"), {"keepdims": 0}),
    ("last", "Sub", ("tokens", "one"), {}),
    ("seqlens_k", "Cast", ("last",), {"to": TensorProto.INT32}),
    ("mask_shape", "Shape", ("attention_mask",), {}),
    ("longest", "Gather", ("mask_shape", "one"), {}),
    ("total_sequence_length", "Cast", ("longest",), {"to": TensorProto.INT32}),
    ("ids_shape", "Shape", ("input_ids",), {}),
    ("batch", "Gather", ("ids_shape", "zero"), {}),
    ("length", "Gather", ("ids_shape", "one"), {}),
    ("rows", "Range", ("zero", "batch", "one"), {}),
    ("next_rows", "Add", ("rows", "one"), {}),
    ("row_ends", "Mul", ("next_rows", "length"), {}),
    ("logit_rows", "Sub", ("row_ends", "one"), {}),
)


def write(source: Path, target: Path, threads: int) -> None:
    """Writes a model folder for genai from one of Rapport's."""
    target.mkdir(parents=True, exist_ok=True)
    model = onnx.load(str(source / "model.onnx"), load_external_data=False)
    rewire(model.graph)
    onnx.save(model, str(target / "model.onnx"))
    for name in ("model.onnx.data", "tokenizer.json"):
        shutil.copyfile(source / name, target / name)
    spec = orjson.loads((source / "model.json").read_bytes())
    (target / "genai_config.json").write_bytes(orjson.dumps(config(spec, threads)))


def rewire(graph: GraphProto) -> None:
    """Takes a mask in place of lengths, and gives logits [batch, 1, vocabulary]."""
    ids, *others = (value for value in graph.input if value.name not in OURS)
    mask = helper.make_tensor_value_info("attention_mask", TensorProto.INT64, ["batch", "total"])
    del graph.input[:]
    graph.input.extend([ids, mask, *others])
    for name, value in CONSTANTS.items():
        graph.initializer.append(numpy_helper.from_array(value, name))
    inner = [renamed(node) for node in graph.node]
    before = [helper.make_node(kind, given, [out], **more) for out, kind, given, more in LENGTHS]
    behind = helper.make_node("Unsqueeze", ["logits_2d", "axis"], ["logits"])
    del graph.node[:]
    graph.node.extend([*before, *inner, behind])
    vocabulary = graph.output[0].type.tensor_type.shape.dim[-1].dim_value
    shape: list[str | int | None] = ["batch", 1, vocabulary]
    graph.output[0].CopyFrom(helper.make_tensor_value_info("logits", TensorProto.FLOAT, shape))


def renamed(node: NodeProto) -> NodeProto:
    """The node, with the graph's own logits [rows, vocabulary] under another name."""
    for place, name in enumerate(node.output):
        if name == "logits":
            node.output[place] = "logits_2d"
    return node


def config(spec: dict[str, Any], threads: int) -> dict[str, Any]:
    """genai_config.json for a `model.json`."""
    past, present = spec["inputs"], spec["outputs"]
    decoder = {
        "session_options": {"intra_op_num_threads": threads, "provider_options": []},
        "filename": "model.onnx",
        "head_size": spec["head_size"],
        "hidden_size": spec["heads"] * spec["head_size"],
        "num_attention_heads": spec["heads"],
        "num_hidden_layers": spec["layers"],
        "num_key_value_heads": spec["kv_heads"],
        "inputs": {
            "input_ids": "input_ids",
            "attention_mask": "attention_mask",
            "past_key_names": past["past_key"].format(layer="%d"),
            "past_value_names": past["past_value"].format(layer="%d"),
        },
        "outputs": {
            "logits": "logits",
            "present_key_names": present["present_key"].format(layer="%d"),
            "present_value_names": present["present_value"].format(layer="%d"),
        },
    }
    model = {
        "type": "llama",
        "bos_token_id": 1,
        "eos_token_id": spec["eos_token_ids"],
        "pad_token_id": spec["eos_token_ids"][0],
        "context_length": spec["context_length"],
        "vocab_size": spec["vocab_size"],
        "decoder": decoder,
    }
    search = {"max_length": spec["context_length"], "past_present_share_buffer": True}
    return {"model": model, "search": search}
