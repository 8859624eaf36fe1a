"""A folder's templates are those that transformers finds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rapport.models.decoder.chat_templates import ChatTemplates
from rapport.models.errors import CorruptFileError, UnsupportedModelError
from rapport.models.huggingface.json_file import JsonFile
from rapport.models.huggingface.templates import read_templates

LIST = [
    {"name": "default", "template": "plain"},
    {"name": "tool_use", "template": "tools"},
    {"name": "rag", "template": "documents"},
]


@pytest.mark.parametrize(
    ("stored", "files", "expected"),
    [
        ("plain", {}, ChatTemplates("plain")),
        (LIST, {}, ChatTemplates("plain", "tools")),
        (LIST[:1], {}, ChatTemplates("plain")),
        (LIST, {"chat_template.jinja": "file"}, ChatTemplates("file")),
        (
            None,
            {"chat_template.jinja": "file", "additional_chat_templates/tool_use.jinja": "t"},
            ChatTemplates("file", "t"),
        ),
    ],
)
def test_templates_are_in_files_or_in_the_configuration(
    tmp_path: Path, stored: object, files: dict[str, str], expected: ChatTemplates
) -> None:
    """Those in files go before those in tokenizer_config.json."""
    (tmp_path / "additional_chat_templates").mkdir()
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    config = tmp_path / "tokenizer_config.json"
    config.write_text(json.dumps({"chat_template": stored}))
    assert read_templates(tmp_path, JsonFile(config)) == expected


@pytest.mark.parametrize("stored", [None, 7, [7], [{"name": "tool_use", "template": "x"}], [{}]])
def test_one_is_the_default(tmp_path: Path, stored: object) -> None:
    """Without it requests that have no tools have none."""
    config = tmp_path / "tokenizer_config.json"
    config.write_text(json.dumps({"chat_template": stored}))
    with pytest.raises(UnsupportedModelError, match=r"no chat template.*--chat-template FILE"):
        read_templates(tmp_path, JsonFile(config))


def test_templates_are_text(tmp_path: Path) -> None:
    (tmp_path / "chat_template.jinja").write_bytes(b"\xff")
    with pytest.raises(CorruptFileError, match=r"chat_template.jinja: it is no text"):
        read_templates(tmp_path, None)
