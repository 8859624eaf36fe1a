from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import orjson
import pytest

from bench.genai.folder import write
from rapport.common.model_spec import ModelSpec


@pytest.fixture(scope="module")
def genai_folder(int4_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("genai")
    write(int4_folder, folder, threads=1)
    return folder


def empty_cache(spec: ModelSpec, batch: int, room: int) -> dict[str, Any]:
    shape = (batch, spec.kv_heads, room, spec.head_size)
    names = (spec.inputs.past_key, spec.inputs.past_value)
    return {
        name.format(layer=layer): np.zeros(shape, np.float32)
        for layer in range(spec.layers)
        for name in names
    }


def logits(folder: Path, feeds: dict[str, Any]) -> Any:
    session = ort.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    return session.run(["logits"], feeds)[0]


def test_a_mask_gives_what_lengths_do(int4_folder: Path, genai_folder: Path) -> None:
    """The graph for genai computes as ours does: the last token's logits of each sequence."""
    spec = ModelSpec.read(int4_folder)
    ids = np.array([[100, 200, 300], [400, 500, 600]])
    cache = empty_cache(spec, batch=2, room=3)
    lengths = {
        "input_ids": ids,
        "seqlens_k": np.array([2, 2], np.int32),
        "total_sequence_length": np.array(3, np.int32),
        "logit_rows": np.array([2, 5]),
    }
    wanted = logits(int4_folder, lengths | cache)
    masked = {"input_ids": ids, "attention_mask": np.ones((2, 3), np.int64)}
    np.testing.assert_array_equal(logits(genai_folder, masked | cache)[:, 0], wanted)


def test_the_configuration_fits_the_model(int4_folder: Path, genai_folder: Path) -> None:
    """The configuration has the model's sizes and the names that the graph has."""
    spec = ModelSpec.read(int4_folder)
    model = orjson.loads((genai_folder / "genai_config.json").read_bytes())["model"]
    assert model["vocab_size"] == spec.vocab_size
    assert model["decoder"]["num_hidden_layers"] == spec.layers
    assert model["decoder"]["inputs"]["past_key_names"] == "past_key_values.%d.key"
