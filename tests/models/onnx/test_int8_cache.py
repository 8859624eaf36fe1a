"""Keys and values in int8 are those of float32, rounded."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from tokenizers import Tokenizer
from tokenizers.models import BPE

from rapport.models.errors import UnsupportedModelError
from rapport.models.folder import Origin
from rapport.models.folder_writer import write_folder
from rapport.models.onnx.int8_cache import CALIBRATION_TEXT, cache_scales, rotated_peaks, scale_of
from rapport.models.progress import silent
from tests.models.conftest import Decoder
from tests.models.test_fidelity import TEXT

PROMPT = [1, 60, 70, 80, 90, 100, 2, 7, 7, 7, 200, 31]


@pytest.fixture
def folders(tiny_gguf: Callable[..., Path], cache: Path) -> dict[str, Path]:
    """The tiny model with its cache in float32 and in int8."""
    made = {precision: cache / "models" / "tiny" / precision for precision in ("int4", "int4-kv8")}
    for precision, folder in made.items():
        write_folder(Origin("tiny", "tests", tiny_gguf(), {}), precision, folder, silent)
    return made


def test_a_vocabulary_without_text_is_refused(folders: dict[str, Path]) -> None:
    """Where the text that keys and values are measured with has no token, nothing is measured."""
    empty, architecture = Tokenizer(BPE(vocab={}, merges=[])), Mock(context_length=128)
    with pytest.raises(UnsupportedModelError, match="no text has any token"):
        cache_scales(folders["int4"] / "model.onnx", empty, architecture)


def test_the_cache_is_rounded_to_its_scales(
    folders: dict[str, Path], decoder: type[Decoder]
) -> None:
    """The first layer, whose input is the same, keeps round(x / scale) within -128 and 127."""
    exact, small = (decoder(folder, room=64) for folder in folders.values())
    for graph in (exact, small):
        graph.run([PROMPT], [0])
    model = onnx.load(folders["int4-kv8"] / "model.onnx", load_external_data=False)
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for part in ("key", "value"):
        names = f"past_key_values.0.{part}", f"present.0.{part}"
        floats, integers = (graph.cache[names][0, :, : len(PROMPT)] for graph in (exact, small))
        scale = numpy_helper.to_array(constants[f"{names[0]}.scale"]).reshape(2, 1, 16)
        assert integers.dtype == np.int8
        np.testing.assert_array_equal(integers, np.clip(np.rint(floats / scale), -128, 127))


def test_the_folder_says_int8(folders: dict[str, Path]) -> None:
    """The folder names the type; but for that and its name, the model is described alike."""
    plain, small = (json.loads((path / "model.json").read_text()) for path in folders.values())
    assert small == plain | {
        "precision": "int4-kv8",
        "kv_type": "int8",
        "created": small["created"],
        "sizes": small["sizes"],
        "sha256": small["sha256"],
    }


def test_the_weights_are_the_same(folders: dict[str, Path]) -> None:
    """Only the graph differs."""
    plain, small = ((path / "model.onnx.data").read_bytes() for path in folders.values())
    assert plain == small


def test_keys_fit_at_any_position() -> None:
    """However far a later position rotates the pairs of a key, int8 holds them unclipped."""
    random = np.random.default_rng(5)
    keys = random.standard_normal((2, 40, 16)).astype(np.float32)
    scale = scale_of(rotated_peaks(keys))[:, None]
    pairs = keys[..., :8] + 1j * keys[..., 8:]
    for _ in range(50):
        turned = pairs * np.exp(1j * random.uniform(0, 2 * np.pi, (2, 40, 8)))
        rotated = np.concatenate([turned.real, turned.imag], -1)
        assert np.abs(rotated / scale).max() <= 127


def test_a_channel_of_zeros_divides_by_something() -> None:
    """A channel that the text leaves at zero gets a scale that is not."""
    assert (scale_of(np.zeros((2, 16), np.float32)) > 0).all()


def test_fidelity_is_measured_on_another_text() -> None:
    """No line of the text that measures is in the one that calibrates."""
    calibrating = set(CALIBRATION_TEXT.read_text(encoding="utf-8").splitlines()) - {""}
    assert calibrating.isdisjoint(TEXT.splitlines())
