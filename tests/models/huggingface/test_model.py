"""Models in Hugging Face folders are those that transformers computes."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from rapport.models.errors import ModelError
from rapport.models.folder import Origin
from rapport.models.folder_writer import write_folder
from rapport.models.huggingface.model import HuggingFaceModel
from rapport.models.progress import silent
from tests.models.conftest import Decoder
from tests.models.tiny import LONG, MODELS

RECORDED = np.load(Path(__file__).parents[1] / "transformers_logits.npz")


def logits(folder: Path, precision: str) -> np.ndarray:
    made = folder.with_name(precision)
    write_folder(Origin("tiny", "tests", folder, {}), precision, made, silent)
    return Decoder(made, room=128).run([LONG], [0], rows=RECORDED["rows"])


# No config.json says any factors that divide the frequencies, only those of Llama 3. Mixtures of
# experts are read from GGUF files alone.
NOT_IN_FOLDERS = {"llama with factors", "llama with experts", "qwen3moe"}


@pytest.mark.parametrize("name", sorted(MODELS.keys() - NOT_IN_FOLDERS))
def test_logits_are_those_of_transformers(tiny_folder: Callable[..., Path], name: str) -> None:
    """Of each architecture, its weights in two files."""
    found = logits(tiny_folder(name, shards=2), "float32")
    np.testing.assert_allclose(found, RECORDED[name], atol=1e-5)


@pytest.mark.parametrize(
    ("element", "tolerance"), [(np.float16, 1e-3), (ml_dtypes.bfloat16, 0.01)], ids=["half", "bf16"]
)
def test_weights_may_be_of_two_bytes(
    tiny_folder: Callable[..., Path], element: type, tolerance: float
) -> None:
    folder = tiny_folder("qwen3")
    file = folder / "model.safetensors"
    save_file({name: each.astype(element) for name, each in load_file(file).items()}, file)
    np.testing.assert_allclose(logits(folder, "float32"), RECORDED["qwen3"], atol=tolerance)


@pytest.mark.parametrize(("precision", "tolerance"), [("int8", 0.02), ("int4", 0.1)])
def test_floats_are_quantised(
    tiny_folder: Callable[..., Path], precision: str, tolerance: float
) -> None:
    """A folder has floats alone, so that a precision in fewer bits means all of its matrices."""
    folder = tiny_folder("qwen2")
    found, expected = logits(folder, precision), RECORDED["qwen2"]
    assert np.abs(found - expected).mean() <= tolerance * expected.std()
    sizes = [(folder.with_name(each) / "model.onnx.data").stat().st_size for each in (precision,)]
    assert sizes[0] < (folder / "model.safetensors").stat().st_size


ATOMS = (b"-1", b"1e308", b"null", b"[]", b"{}", b'""', b"9" * 20, b"0", b"true", b"[" * 99)


def test_no_damage_is_more_than_an_error(tiny_folder: Callable[..., Path]) -> None:
    """Bytes and values of any file, changed at random: the model is read, or an error is raised."""
    folder = tiny_folder("gemma3", shards=2)
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [1, 0]}))
    files = {path: path.read_bytes() for path in sorted(folder.iterdir())}
    chance = random.Random(7)  # noqa: S311 - no secret
    for _ in range(150):
        path, content = chance.choice(list(files.items()))
        is_json = path.suffix == ".json"
        changed = bytearray(content)
        place = chance.randrange(len(content) if is_json else min(len(content), 3000))
        match chance.randrange(3):
            case 0:
                changed[place] = chance.randrange(256)
            case 1:
                del changed[place:]
            case 2:
                # The value that follows.
                start = content.find(b":", place) + 1
                changed[start : content.find(b",", start)] = chance.choice(ATOMS)
        path.write_bytes(changed)
        with suppress(ModelError):
            model = HuggingFaceModel(folder)
            model.tokenizer()
            for name in model.source.tensors:
                model.source.matrix(name)
        path.write_bytes(content)
