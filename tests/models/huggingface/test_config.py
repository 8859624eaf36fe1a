"""config.json is read in the spellings of transformers, and refused by what is not known of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rapport.models.decoder.architecture import Architecture
from rapport.models.errors import CorruptFileError, UnsupportedModelError
from rapport.models.huggingface.model import HuggingFaceModel

LINEAR = {"type": "linear", "factor": 8.0}
FULL, SLIDING = "full_attention", "sliding_attention"


def read(folder: Path) -> Architecture:
    return HuggingFaceModel(folder).architecture


@pytest.mark.parametrize(
    ("name", "older"),
    [
        ("llama with linear scaling", {"rope_theta": 100000, "rope_scaling": LINEAR}),
        (
            "gemma3 with linear scaling",
            {
                "rope_theta": 1000000,
                "rope_local_base_freq": 10000,
                "rope_scaling": LINEAR,
                "layer_types": None,
                "sliding_window_pattern": 6,
            },
        ),
        (
            "llama with YaRN",
            {
                "rope_theta": 1e5,
                "rope_scaling": {
                    "type": "yarn",
                    "factor": 4.0,
                    "original_max_position_embeddings": 32,
                },
            },
        ),
        ("qwen2", {"rope_theta": 1e5, "layer_types": None, "sliding_window": 64}),
    ],
)
def test_older_spellings_say_the_same(
    tiny_folder: Callable[..., Path], name: str, older: dict[str, Any]
) -> None:
    """Those of transformers 4, in which most models were written."""
    expected = read(tiny_folder(name))
    found = read(tiny_folder(name, rope_parameters=None, **older))
    assert found.window == expected.window
    for rope in ("rope", "local_rope"):
        one, other = getattr(found, rope), getattr(expected, rope)
        assert (one.frequencies == other.frequencies).all()
        assert one.magnitude == other.magnitude


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"model_type": "gpt_neox"}, "model_type gpt_neox"),
        ({"quantization_config": {"quant_method": "awq"}}, "quantization_config awq"),
        ({"hidden_act": "relu"}, "activation relu"),
        ({"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4}}, "rope_type dynamic"),
        ({"sliding_window": 8, "layer_types": [FULL, SLIDING]}, "layer_types full_attention, "),
        ({"no_rope_layers": [1, 0]}, "no_rope_layers 1, 0"),
        ({"sliding_window": 8, "max_window_layers": 1}, "layer_types full_attention, "),
    ],
)
def test_what_is_not_supported_is_named(
    tiny_folder: Callable[..., Path], changes: dict[str, Any], what: str
) -> None:
    with pytest.raises(UnsupportedModelError, match=f"{what}.*is not supported; known: "):
        read(tiny_folder(**changes))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"model_type": None}, "does not say its model_type"),
        ({"num_attention_heads": None}, "does not say its num_attention_heads"),
        ({"num_attention_heads": "4"}, "num_attention_heads is str, not int"),
        ({"num_hidden_layers": True}, "num_hidden_layers is bool, not int"),
        ({"num_hidden_layers": 0}, "num_hidden_layers is 0, not from 1 to"),
        ({"num_hidden_layers": 10**12}, "num_hidden_layers is 1000000000000, not from 1"),
        ({"sliding_window": 8, "max_window_layers": 1, "num_hidden_layers": 10**12}, "over 10000"),
        ({"partial_rotary_factor": 2}, "partial_rotary_factor is 2.0, over 1"),
        ({"rope_parameters": {"rope_theta": -1}}, "rope_theta is -1.0, not a positive number"),
        ({"rope_parameters": {"rope_type": "linear"}}, "factor is None, not a positive number"),
        ({"rope_parameters": []}, "rope_parameters is list, not dict"),
    ],
)
def test_what_makes_no_sense_is_named(
    tiny_folder: Callable[..., Path], changes: dict[str, Any], reason: str
) -> None:
    with pytest.raises(CorruptFileError, match=reason):
        read(tiny_folder(**changes))


@pytest.mark.parametrize(
    ("content", "reason"),
    [("{", "no JSON"), ("[" * 100_000, "no JSON"), ("[]", "no object"), ('{"a": NaN}', "no JSON")],
)
def test_damaged_json_is_refused(
    tiny_folder: Callable[..., Path], content: str, reason: str
) -> None:
    folder = tiny_folder()
    (folder / "config.json").write_text(content)
    with pytest.raises(CorruptFileError, match=rf"config.json: it (is|holds) {reason}"):
        read(folder)


def test_configurations_are_of_every_family(tiny_folder: Callable[..., Path]) -> None:
    """A window of no layer is none."""
    config = json.loads((tiny_folder("smollm3") / "config.json").read_text())
    assert config["use_sliding_window"] is False
    assert read(tiny_folder("smollm3", sliding_window=8)).window == 0
