"""The chat templates of a folder that transformers has written."""

from __future__ import annotations

from pathlib import Path

from rapport.models.decoder.chat_templates import DEFAULT, TOOL_USE, ChatTemplates
from rapport.models.errors import CorruptFileError
from rapport.models.huggingface.json_file import MAX_JSON_BYTES, JsonFile

# The files of templates, by the names of those.
TEMPLATE_FILES = {
    DEFAULT: "chat_template.jinja",
    TOOL_USE: f"additional_chat_templates/{TOOL_USE}.jinja",
}


def read_templates(folder: Path, config: JsonFile | None) -> ChatTemplates:
    """The templates in files of their own, or else in tokenizer_config.json.

    Raises:
        CorruptFileError: a file is too large, or no text.
        UnsupportedModelError: there is none that is the default.
        OSError: a file cannot be read.
    """
    files = {name: folder / file for name, file in TEMPLATE_FILES.items()}
    templates = {name: _read(file) for name, file in files.items() if file.is_file()}
    if DEFAULT not in templates and config is not None:
        templates = _stored(config.values.get("chat_template")) | templates
    return ChatTemplates.of(templates, folder)


def checked(path: Path, max_bytes: int) -> Path:
    """The path of a file that is not larger.

    Raises:
        CorruptFileError: it is.
        OSError: it cannot be read.
    """
    if (size := path.stat().st_size) > max_bytes:
        raise CorruptFileError(f"{path}: it has {size} bytes, over {max_bytes}")
    return path


def _read(file: Path) -> str:
    try:
        return checked(file, MAX_JSON_BYTES).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise CorruptFileError(f"{file}: it is no text: {error}") from error


def _stored(value: object) -> dict[str, str]:
    """The templates in a configuration: one, or a list of them with names."""
    if isinstance(value, str):
        return {DEFAULT: value}
    named = [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []
    pairs = ((each.get("name"), each.get("template")) for each in named)
    return {str(name): text for name, text in pairs if isinstance(text, str)}
