"""What is checked: a model in each precision for a GPU, and in float32 as the reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import orjson

from bench.progress import show_progress
from rapport.common.model_spec import ModelSpec
from rapport.models.cache.catalog import DEFAULT_MODEL
from rapport.models.folder import Origin
from rapport.models.folder_writer import write_folder
from rapport.models.importer import ensure
from rapport.models.onnx.precision import CUDA_PRECISIONS
from rapport.models.progress import silent
from rapport.service.engine.text.vocabulary import Vocabulary

REFERENCE = "float32"
SERVED = CUDA_PRECISIONS[0]
TEXT = Path(__file__).parents[2] / "LICENSE"

Measured = dict[str, Any]
"""What a stage has found, as JSON has it."""


@dataclass(frozen=True, slots=True)
class Subject:
    """Model folders by precision."""

    folders: dict[str, str]
    computes: bool = True
    """Whether kernels compute anything: over the stub of CUDA they do not."""

    @classmethod
    def of(cls, gguf: Path | None, scratch: Path) -> Self:
        """The default model, or that of a file; what is not in the cache is imported."""
        folders = {}
        for precision in (*CUDA_PRECISIONS, REFERENCE):
            show_progress(f"importing {precision}")
            if gguf is None:
                folders[precision] = str(ensure(DEFAULT_MODEL, precision))
            else:
                folders[precision] = str(scratch / precision)
                origin = Origin(gguf.stem, "unknown", gguf, {"file": gguf.name})
                write_folder(origin, precision, scratch / precision, silent)
        return cls(folders)

    @classmethod
    def from_json(cls, text: str) -> Self:
        return cls(**orjson.loads(text))

    def to_json(self) -> str:
        return orjson.dumps(asdict(self)).decode()

    def folder(self, precision: str = SERVED) -> Path:
        return Path(self.folders[precision])

    def spec(self, precision: str = SERVED) -> ModelSpec:
        return ModelSpec.read(self.folder(precision))

    def text(self, count: int) -> Sequence[int]:
        """As many tokens of a text, which is repeated if it has fewer."""
        vocabulary = Vocabulary.read(self.folder(), self.spec().vocab_size)
        tokens = vocabulary.encode(TEXT.read_text(encoding="utf-8"))
        return (tokens * (count // len(tokens) + 1))[:count]
