"""The model folder, which has all files that the engine reads.

model.onnx, model.onnx.data   the decoder (graph.py describes its inputs and outputs)
tokenizer.json                for the tokenizers library
chat_template.jinja
model.json                    rapport.common.model_spec, written last
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rapport.common.model_spec import FILE_NAME, FORMAT, ModelSpec
from rapport.models.cache.fetch import sha256_of

GRAPH, WEIGHTS = "model.onnx", "model.onnx.data"
TOKENIZER, TEMPLATE = "tokenizer.json", "chat_template.jinja"
FILES = (GRAPH, WEIGHTS, TOKENIZER, TEMPLATE, FILE_NAME)


@dataclass(frozen=True, slots=True)
class Origin:
    """What a folder is made from: the model in a file or folder. `source` says where it came from.

    `chat_template` replaces that of the model.
    """

    id: str
    owned_by: str
    path: Path
    source: dict[str, str]
    chat_template: str | None = None


def is_current(folder: Path, gguf_sha256: str | None = None) -> bool:
    """Whether the folder is complete and of this format.

    With `gguf_sha256` it must also have been imported from the GGUF file of that hash.
    """
    try:
        spec = ModelSpec.read(folder)
        same_source = gguf_sha256 in (None, spec.source.get("gguf_sha256"))
        complete = spec.sizes == file_sizes(folder)
    except (OSError, ValueError):
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


def spec_of(folder: Path, values: Mapping[str, object]) -> ModelSpec:
    """The description of a folder just written: these values, its date and its files.

    Raises:
        OSError: a file is missing, or cannot be read.
    """
    return ModelSpec.model_validate(
        {
            **values,
            "format": FORMAT,
            "created": int(time.time()),  # noqa: TID251 - a date
            "sizes": file_sizes(folder),
            "sha256": {name: sha256_of(folder / name) for name in FILES if name != FILE_NAME},
        }
    )


def file_sizes(folder: Path) -> dict[str, int]:
    """Sizes in bytes of the files that model.json describes.

    Raises:
        OSError: one of them is missing.
    """
    return {name: (folder / name).stat().st_size for name in FILES if name != FILE_NAME}
