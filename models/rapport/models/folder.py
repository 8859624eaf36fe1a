"""The model folder: all that the engine reads.

model.onnx, model.onnx.data   the decoder (graph.py says its inputs and outputs)
tokenizer.json                for the tokenizers library
chat_template.jinja
model.json                    what the engine must know, written last
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import onnx
from onnx import ModelProto
from tokenizers import Tokenizer

from rapport.models.cache import store as cache
from rapport.models.gguf.reader import Architecture, GgufFile
from rapport.models.gguf.tokenizer import tokenizer_from
from rapport.models.onnx.file import OnnxWriter
from rapport.models.onnx.graph import INPUTS, OUTPUTS, DecoderGraph
from rapport.models.onnx.int8_cache import cache_scales, with_int8_cache
from rapport.models.onnx.precision import PRECISIONS
from rapport.models.progress import Progress

# To be raised when folders of an older Rapport must be made anew.
FORMAT = 1
GRAPH, WEIGHTS = "model.onnx", "model.onnx.data"
TOKENIZER, TEMPLATE, DESCRIPTION = "tokenizer.json", "chat_template.jinja", "model.json"
FILES = (GRAPH, WEIGHTS, TOKENIZER, TEMPLATE, DESCRIPTION)


@dataclass(frozen=True, slots=True)
class Origin:
    """What a folder is made of. `source` tells where its GGUF file came from."""

    id: str
    owned_by: str
    gguf: Path
    source: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """The content of model.json. In the names of tensors, {layer} counts from 0."""

    format: int = FORMAT
    id: str
    precision: str
    created: int  # Unix seconds
    owned_by: str
    context_length: int
    layers: int
    heads: int
    kv_heads: int
    head_size: int
    vocab_size: int
    kv_type: str
    eos_token_ids: list[int]
    inputs: dict[str, str] = field(default_factory=lambda: INPUTS)
    outputs: dict[str, str] = field(default_factory=lambda: OUTPUTS)
    source: dict[str, str]
    sizes: dict[str, int]  # in bytes, of the other files


def is_current(folder: Path, gguf_sha256: str | None = None) -> bool:
    """Whether the folder is whole, of this format and, if told, made from that GGUF file."""
    try:
        description = json.loads((folder / DESCRIPTION).read_bytes())
        same = description["format"] == FORMAT
        made_from_it = gguf_sha256 in (None, description["source"]["gguf_sha256"])
        whole = description["sizes"] == sizes_in(folder)
    except (OSError, ValueError, LookupError, TypeError):
        return False
    return same and made_from_it and whole


def write_folder(origin: Origin, precision: str, final: Path, progress: Progress) -> None:
    """Write the model folder of a GGUF file, whole or not at all.

    Raises CorruptFileError or UnsupportedModelError for the GGUF file and OSError for the disk.
    The caller holds the cache's lock.
    """
    file = GgufFile(origin.gguf)
    with cache.partial_folder(final) as partial:
        tokenizer = tokenizer_from(file.vocabulary)
        write_graph(file, precision, partial, progress)
        if PRECISIONS[precision].int8_cache:
            progress("measuring keys and values", 0.0)
            quantise_cache(partial / GRAPH, tokenizer, file.architecture)
        (partial / TOKENIZER).write_text(tokenizer.to_str(), encoding="utf-8")
        (partial / TEMPLATE).write_text(file.chat_template, encoding="utf-8")
        description = describe(file, origin, precision, sizes_in(partial))
        (partial / DESCRIPTION).write_text(json.dumps(asdict(description), indent=2) + "\n")
        progress("writing to disk", 1.0)
        cache.publish(partial, final)


def write_graph(file: GgufFile, precision: str, folder: Path, progress: Progress) -> None:
    with (folder / WEIGHTS).open("wb") as data:
        graph = DecoderGraph(file, OnnxWriter(data, WEIGHTS), PRECISIONS[precision])
        model = graph.build(progress)
    write_model(model, folder / GRAPH)


def quantise_cache(path: Path, tokenizer: Tokenizer, architecture: Architecture) -> None:
    scales = cache_scales(path, tokenizer, architecture)
    model = onnx.load(path, load_external_data=False)
    write_model(with_int8_cache(model, scales), path)


def write_model(model: ModelProto, path: Path) -> None:
    path.write_bytes(model.SerializeToString(deterministic=True))


def sizes_in(folder: Path) -> dict[str, int]:
    """How large the described files are. Raises OSError if one is not there."""
    return {name: (folder / name).stat().st_size for name in FILES if name != DESCRIPTION}


def describe(file: GgufFile, origin: Origin, precision: str, sizes: dict[str, int]) -> Description:
    architecture, kind = file.architecture, PRECISIONS[precision]
    return Description(
        id=origin.id,
        precision=precision,
        created=int(time.time()),  # noqa: TID251 - a date
        owned_by=origin.owned_by,
        context_length=architecture.context_length,
        layers=architecture.layers,
        heads=architecture.heads,
        kv_heads=architecture.kv_heads,
        head_size=architecture.head_size,
        vocab_size=architecture.vocab_size,
        kv_type="int8" if kind.int8_cache else kind.element,
        eos_token_ids=file.end_tokens,
        source=origin.source,
        sizes=sizes,
    )
