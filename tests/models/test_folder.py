"""A model folder is complete and says what the engine must know."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from rapport.models.folder import FILES, Origin, file_sizes, is_current, write_folder
from rapport.models.progress import silent

SOURCE = {"gguf_sha256": "ab" * 32}


@pytest.fixture
def folder(tiny_gguf: Callable[..., Path], tmp_path: Path) -> Path:
    final = tmp_path / "models" / "tiny" / "int4"
    write_folder(Origin("tiny", "tests", tiny_gguf(), SOURCE), "int4", final, silent)
    return final


def test_folder_holds_its_files_and_no_more(folder: Path) -> None:
    """The folder has the five files, and nothing is left beside it."""
    assert {path.name for path in folder.iterdir()} == set(FILES)
    assert list(folder.parent.iterdir()) == [folder]


def test_description(folder: Path) -> None:
    """model.json has what the engine reads, key for key."""
    about = json.loads((folder / "model.json").read_text())
    assert abs(time.time() - about.pop("created")) < 60
    assert about.pop("sizes") == file_sizes(folder)
    assert about.pop("sha256").keys() == set(FILES) - {"model.json"}
    assert about == {
        "format": 1,
        "id": "tiny",
        "precision": "int4",
        "owned_by": "tests",
        "context_length": 128,
        "layers": 2,
        "heads": 4,
        "kv_heads": 2,
        "head_size": 16,
        "vocab_size": 261,
        "kv_type": "float32",
        "eos_token_ids": [1, 0],
        "special_tokens": {"eos_token": "<|im_end|>"},
        "begins_with_bos": False,
        "inputs": {
            "input_ids": "input_ids",
            "seqlens_k": "seqlens_k",
            "total_sequence_length": "total_sequence_length",
            "logit_rows": "logit_rows",
            "past_key": "past_key_values.{layer}.key",
            "past_value": "past_key_values.{layer}.value",
        },
        "outputs": {
            "logits": "logits",
            "present_key": "present.{layer}.key",
            "present_value": "present.{layer}.value",
        },
        "source": SOURCE,
    }


def test_made_twice_the_graph_is_the_same(
    folder: Path, tiny_gguf: Callable[..., Path], tmp_path: Path
) -> None:
    """The same file gives the same bytes, on whatever machine."""
    again = tmp_path / "again"
    write_folder(Origin("tiny", "tests", tiny_gguf(), SOURCE), "int4", again, silent)
    for name in ("model.onnx", "model.onnx.data", "tokenizer.json", "chat_template.jinja"):
        assert (folder / name).read_bytes() == (again / name).read_bytes()


def test_whole_folder_is_current(folder: Path) -> None:
    """A folder just written is current, for the file that it was made from."""
    assert is_current(folder)
    assert is_current(folder, SOURCE["gguf_sha256"])
    assert not is_current(folder, "cd" * 32)


@pytest.mark.parametrize("name", FILES)
def test_folder_that_lacks_a_file_is_not_current(folder: Path, name: str) -> None:
    """Whichever file is gone, the folder counts as absent."""
    (folder / name).unlink()
    assert not is_current(folder)


@pytest.mark.parametrize("name", FILES)
def test_folder_with_a_truncated_file_is_not_current(folder: Path, name: str) -> None:
    """Whichever file is cut short, the folder counts as absent, and so is made anew."""
    path = folder / name
    os.truncate(path, path.stat().st_size // 2)
    assert not is_current(folder)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"format": 0, "source": {}}'])
def test_folder_of_another_format_is_not_current(folder: Path, content: str) -> None:
    """A description that is damaged, or of an older Rapport, counts as absent."""
    (folder / "model.json").write_text(content)
    assert not is_current(folder)


def test_older_format_is_not_current(folder: Path) -> None:
    """A folder of an older format is to be made anew."""
    about = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps(about | {"format": 0}))
    assert not is_current(folder)
