"""The model folder, which has all files that the engine reads.

model.onnx, model.onnx.data   the decoder (graph.py describes its inputs and outputs)
tokenizer.json                for the tokenizers library
chat_template.jinja
model.json                    rapport.common.model_spec, written last
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import onnx
from onnx import ModelProto
from tokenizers import Tokenizer

from rapport.common.model_spec import FILE_NAME, FORMAT, ModelSpec
from rapport.models.cache import store
from rapport.models.cache.fetch import sha256_of
from rapport.models.gguf.architecture import Architecture
from rapport.models.gguf.model import GgufModel
from rapport.models.gguf.tokenizer import tokenizer_from
from rapport.models.onnx.file import OnnxWriter
from rapport.models.onnx.graph import DecoderGraph
from rapport.models.onnx.int8_cache import cache_scales, with_int8_cache
from rapport.models.onnx.names import INPUTS, OUTPUTS
from rapport.models.onnx.precision import PRECISIONS
from rapport.models.progress import Progress

GRAPH, WEIGHTS = "model.onnx", "model.onnx.data"
TOKENIZER, TEMPLATE = "tokenizer.json", "chat_template.jinja"
FILES = (GRAPH, WEIGHTS, TOKENIZER, TEMPLATE, FILE_NAME)


@dataclass(frozen=True, slots=True)
class Origin:
    """What a folder is made from. `source` describes where its GGUF file came from.

    `chat_template` replaces that of the file.
    """

    id: str
    owned_by: str
    gguf: Path
    source: dict[str, str]
    chat_template: str | None = None


def is_current(folder: Path, gguf_sha256: str | None = None) -> bool:
    """Whether the folder is complete and of this format.

    With `gguf_sha256` it must also have been imported from the GGUF file of that hash.
    """
    try:
        spec = ModelSpec.read(folder)
        same_source = gguf_sha256 in (None, spec.source["gguf_sha256"])
        complete = spec.sizes == file_sizes(folder)
    except (OSError, ValueError, KeyError):
        return False
    return same_source and complete


def damaged_files(folder: Path, spec: ModelSpec) -> list[str]:
    """The names of a folder's files that are not as they were written.

    Raises:
        OSError: one cannot be read.
    """
    return [
        name
        for name, size in spec.sizes.items()
        if not (folder / name).is_file()
        or (folder / name).stat().st_size != size
        or spec.sha256.get(name) not in (None, sha256_of(folder / name))
    ]


def write_folder(origin: Origin, precision: str, final: Path, progress: Progress) -> None:
    """Writes the model folder of a GGUF file, whole or not at all.

    The caller holds the cache's lock.

    Raises:
        CorruptFileError: the GGUF file is damaged.
        UnsupportedModelError: it has something that the graph cannot compute.
        OSError: the folder cannot be written.
    """
    model = GgufModel(origin.gguf, origin.chat_template)
    tokenizer = tokenizer_from(model.vocabulary)
    with store.partial_folder(final) as partial:
        _write_graph(model, precision, partial, progress)
        if PRECISIONS[precision].int8_cache:
            progress("measuring keys and values", 0.0)
            _quantise_cache(partial / GRAPH, tokenizer, model.architecture)
        (partial / TOKENIZER).write_text(tokenizer.to_str(), encoding="utf-8")
        (partial / TEMPLATE).write_text(model.chat_template, encoding="utf-8")
        _describe(model, origin, precision, partial).write(partial)
        progress("writing to disk", 1.0)
        store.publish(partial, final)


def _write_graph(model: GgufModel, precision: str, folder: Path, progress: Progress) -> None:
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


def file_sizes(folder: Path) -> dict[str, int]:
    """Sizes in bytes of the files that model.json describes.

    Raises:
        OSError: one of them is missing.
    """
    return {name: (folder / name).stat().st_size for name in FILES if name != FILE_NAME}


def _describe(model: GgufModel, origin: Origin, precision: str, folder: Path) -> ModelSpec:
    architecture, weights = model.architecture, PRECISIONS[precision]
    tokens = model.vocabulary.tokens
    special = {name: tokens[id_] for name, id_ in model.special_tokens.items()}
    return ModelSpec.model_validate(
        {
            "format": FORMAT,
            "id": origin.id,
            "precision": precision,
            "created": int(time.time()),  # noqa: TID251 - a date
            "owned_by": origin.owned_by,
            "context_length": architecture.context_length,
            "layers": architecture.layers,
            "heads": architecture.heads,
            "kv_heads": architecture.kv_heads,
            "head_size": architecture.head_size,
            "vocab_size": architecture.vocab_size,
            "kv_type": "int8" if weights.int8_cache else weights.element,
            "eos_token_ids": model.end_tokens,
            "special_tokens": special,
            "begins_with_bos": model.begins_with_bos,
            "inputs": INPUTS,
            "outputs": OUTPUTS,
            "source": origin.source,
            "sizes": file_sizes(folder),
            "sha256": {name: sha256_of(folder / name) for name in FILES if name != FILE_NAME},
        }
    )
