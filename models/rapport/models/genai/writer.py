"""Writes the model folder of a folder of onnxruntime-genai: another graph, the same weights."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from onnx import ModelProto, TensorProto

from rapport.common.model_spec import ModelSpec
from rapport.models.cache import store
from rapport.models.folder import GRAPH, TEMPLATE, TOKENIZER, WEIGHTS, spec_of
from rapport.models.genai.model import GenaiModel
from rapport.models.plan import MIB
from rapport.models.progress import Progress


def plan_lines(model_id: str, model: GenaiModel) -> Iterator[str]:
    """What the model is, what becomes of its weights, and how large it is."""
    decoder, config = model.decoder, model.config
    yield (
        f"{model_id}: {config.type} of onnxruntime-genai, {decoder.num_hidden_layers} layers, "
        f"context of {model.context_length:,} tokens"
    )
    for (bits, block), count in model.kinds.most_common():
        yield f"  {count} matrices of {bits} bits in blocks of {block}: kept as they are"
    if not model.kinds:
        yield f"  weights in {model.precision}: kept as they are"
    size = model.weights.size / MIB
    yield (
        f"  {size:,.0f} MiB in {model.precision}: linked, not copied, where the cache is on the "
        "same disk"
    )


def write_genai_folder(
    model: GenaiModel, model_id: str, source: dict[str, str], final: Path, progress: Progress
) -> None:
    """Writes the model folder, whole or not at all.

    The caller holds the cache's lock.

    Raises:
        OSError: the folder cannot be written.
    """
    with store.partial_folder(final) as partial:
        progress("linking the weights", 0.0)
        _write_weights(model.weights.path, partial / WEIGHTS)
        graph = _elsewhere(model.proto, WEIGHTS)
        (partial / GRAPH).write_bytes(graph.SerializeToString(deterministic=True))
        (partial / TOKENIZER).write_text(model.text.tokenizer.to_str(), encoding="utf-8")
        (partial / TEMPLATE).write_text(model.text.chat_templates.default, encoding="utf-8")
        progress("hashing", 0.5)
        _describe(model, model_id, source, partial).write(partial)
        progress("writing to disk", 1.0)
        store.publish(partial, final)


def _write_weights(source: Path | None, target: Path) -> None:
    """Links the file of weights; copies it where links are not possible."""
    if source is None:  # the graph's file has them
        target.touch()
        return
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _elsewhere(model: ModelProto, location: str) -> ModelProto:
    """The model, with its weights in the file of this name."""
    moved = ModelProto()
    moved.CopyFrom(model)
    for tensor in moved.graph.initializer:
        if tensor.data_location == TensorProto.EXTERNAL:
            entry = next(entry for entry in tensor.external_data if entry.key == "location")
            entry.value = location
    return moved


def _describe(model: GenaiModel, model_id: str, source: dict[str, str], folder: Path) -> ModelSpec:
    decoder, text = model.decoder, model.text
    return spec_of(
        folder,
        {
            "id": model_id,
            "precision": model.precision,
            "owned_by": "local",
            "context_length": model.context_length,
            "layers": decoder.num_hidden_layers,
            "heads": decoder.num_attention_heads,
            "kv_heads": decoder.num_key_value_heads,
            "head_size": decoder.head_size,
            "vocab_size": model.config.vocab_size,
            "kv_type": model.attention.kv_type,
            "eos_token_ids": text.end_tokens,
            "tool_template": text.chat_templates.tool_use,
            "special_tokens": text.special_tokens,
            "sampling_defaults": model.sampling_defaults,
            "begins_with_bos": text.begins_with_bos,
            "inputs": model.inputs,
            "outputs": model.outputs,
            "source": source,
        },
    )
