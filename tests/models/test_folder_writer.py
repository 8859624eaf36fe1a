"""What is written is a whole folder, the same every time, that says what the engine must know."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

from rapport.models.folder import FILES, Origin, file_sizes
from rapport.models.folder_writer import write_folder
from rapport.models.progress import silent
from tests.models.conftest import SOURCE


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
        "tool_template": None,
        "special_tokens": {"eos_token": "<|im_end|>"},
        "begins_with_bos": False,
        "sampling_defaults": dict.fromkeys(
            ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")
        ),
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
