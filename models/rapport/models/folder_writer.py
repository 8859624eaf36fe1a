"""Writes model folders."""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import ModelProto
from tokenizers import Tokenizer

from rapport.common.model_spec import ModelSpec
from rapport.models.cache import store
from rapport.models.decoder.architecture import Architecture
from rapport.models.decoder.model import Model
from rapport.models.folder import GRAPH, TEMPLATE, TOKENIZER, WEIGHTS, Origin, spec_of
from rapport.models.onnx.file import OnnxWriter
from rapport.models.onnx.graph import DecoderGraph
from rapport.models.onnx.int8_cache import cache_scales, with_int8_cache
from rapport.models.onnx.names import INPUTS, OUTPUTS
from rapport.models.onnx.precision import PRECISIONS
from rapport.models.progress import Progress
from rapport.models.sources import open_model


def write_folder(origin: Origin, precision: str, final: Path, progress: Progress) -> None:
    """Writes a model folder, whole or not at all.

    The caller holds the cache's lock.

    Raises:
        CorruptFileError: the source is damaged.
        UnsupportedModelError: it has something that the graph cannot compute.
        OSError: the folder cannot be written.
    """
    model = open_model(origin.path, origin.chat_template)
    tokenizer = model.tokenizer()
    with store.partial_folder(final) as partial:
        _write_graph(model, precision, partial, progress)
        if PRECISIONS[precision].int8_cache:
            progress("measuring keys and values", 0.0)
            _quantise_cache(partial / GRAPH, tokenizer, model.architecture)
        (partial / TOKENIZER).write_text(tokenizer.to_str(), encoding="utf-8")
        (partial / TEMPLATE).write_text(model.chat_templates.default, encoding="utf-8")
        _describe(model, origin, precision, partial).write(partial)
        progress("writing to disk", 1.0)
        store.publish(partial, final)


def _write_graph(model: Model, precision: str, folder: Path, progress: Progress) -> None:
    with (folder / WEIGHTS).open("wb") as data:
        graph = DecoderGraph(model, OnnxWriter(data, WEIGHTS), PRECISIONS[precision])
        built = graph.build(progress)
    _write_model(built, folder / GRAPH)


def _quantise_cache(path: Path, tokenizer: Tokenizer, architecture: Architecture) -> None:
    scales = cache_scales(path, tokenizer, architecture)
    model = onnx.load(path, load_external_data=False)
    _write_model(with_int8_cache(model, scales), path)


def _write_model(model: ModelProto, path: Path) -> None:
    path.write_bytes(model.SerializeToString(deterministic=True))


def _describe(model: Model, origin: Origin, precision: str, folder: Path) -> ModelSpec:
    architecture, weights = model.architecture, PRECISIONS[precision]
    return spec_of(
        folder,
        {
            "id": origin.id,
            "precision": precision,
            "owned_by": origin.owned_by,
            "context_length": architecture.context_length,
            "layers": architecture.layers,
            "heads": architecture.heads,
            "kv_heads": architecture.kv_heads,
            "head_size": architecture.head_size,
            "vocab_size": architecture.vocab_size,
            "kv_type": "int8" if weights.int8_cache else weights.element,
            "eos_token_ids": model.end_tokens,
            "tool_template": model.chat_templates.tool_use,
            "special_tokens": model.special_tokens,
            "begins_with_bos": model.begins_with_bos,
            "sampling_defaults": model.sampling_defaults,
            "inputs": INPUTS,
            "outputs": OUTPUTS,
            "source": origin.source,
        },
    )
