"""Folders of tiny models made on the spot, for all that does not need the real one."""

from __future__ import annotations

from pathlib import Path

from rapport.common.model_spec import ModelSpec
from rapport.models.cache.catalog import DEFAULT_MODEL, known_model
from rapport.models.folder import Origin
from rapport.models.folder_writer import write_folder
from rapport.models.progress import silent
from tests.models.tiny import Tiny, write_tiny
from tests.recorded.tiny import write_gguf

# Of a model that is served: more than any test's stream takes.
SERVED_CONTEXT = 32768
CHATML = """\
{% for message in messages %}<|im_start|>{{ message['role'] }}
{{ message['content'] }}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""


def write_tiny_folder(place: Path) -> Path:
    """Makes a model folder in `place`. Served, it answers requests for the default model."""
    gguf = write_tiny(place / "tiny.gguf", Tiny(context=SERVED_CONTEXT, template=CHATML))
    return _folder_of(gguf, "int4")


def write_small_folder(place: Path, real: Path) -> Path:
    """The same, with tokenizer, template and context length of the default model's folder."""
    context = ModelSpec.read(real).context_length
    return _folder_of(write_gguf(place / "small.gguf", real, context=context), "float32")


def _folder_of(gguf: Path, precision: str) -> Path:
    folder = gguf.with_name(precision)
    owner = known_model(DEFAULT_MODEL).owned_by
    origin = Origin(DEFAULT_MODEL, owner, gguf, {"file": gguf.name})
    write_folder(origin, precision, folder, silent)
    return folder
