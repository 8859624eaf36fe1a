"""A folder of onnxruntime-genai becomes a model folder, whole or not at all, and is served."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from rapport.common.model_spec import ModelSpec
from rapport.models.__main__ import main
from rapport.models.errors import CacheError, UnsupportedModelError
from rapport.models.folder import is_current
from rapport.models.genai.model import GenaiModel
from rapport.models.importer import ensure_any, import_genai
from rapport.models.onnx.precision import cpu_precisions
from rapport.service.engine.runtime.load import load_runner
from rapport.service.engine.runtime.providers import CPU
from rapport.service.engine.runtime.runner import OnnxRunner
from rapport.service.engine.text.vocabulary import Vocabulary
from rapport.service.prompt.template import ChatTemplate
from tests.models.genai.conftest import FOLDERS, Folder
from tests.models.genai.test_model import PROMPT


def no_link(source: Path, target: Path) -> None:
    raise OSError(18, "Invalid cross-device link", str(source), None, str(target))


def test_the_engine_runs_it(genai: Folder, cache: Path) -> None:
    """The engine finds the folder by the model's id, and computes what genai does."""
    folder = import_genai(genai.path)
    assert folder == cache / "models/tiny-genai/int4"
    assert ensure_any("tiny-genai", cpu_precisions()) == folder
    runner = load_runner(folder, ModelSpec.read(folder), CPU, slots=2, threads=1)
    assert isinstance(runner, OnnxRunner)
    expected = np.load(FOLDERS / "llama-int4/logits.npy")
    for slot, length in ((0, 20), (1, 9)):
        logits = runner.prefill(slot, PROMPT[:length], 0)
        np.testing.assert_allclose(logits, expected[[length - 1]], atol=1e-4)
    logits = runner.decode([PROMPT[20], PROMPT[9]], [20, 9])
    np.testing.assert_allclose(logits, expected[[20, 9]], atol=1e-4)
    verified = runner.verify(0, PROMPT[21:24], 21)
    np.testing.assert_allclose(verified, expected[21:24], atol=1e-4)


@pytest.mark.usefixtures("cache")
def test_floats_are_found_by_name() -> None:
    """A folder with weights in float32 is served by its name alone, as others are."""
    folder = import_genai(FOLDERS / "gemma2-float32")
    assert folder.name == "float32"
    assert ensure_any("gemma2-float32", cpu_precisions()) == folder


@pytest.mark.usefixtures("cache")
def test_weights_are_linked(genai: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights are not copied, unless a link is not possible; other files are the cache's own."""
    weights = genai.path / "model.onnx.data"
    folder = import_genai(genai.path)
    assert weights.samefile(folder / "model.onnx.data")
    assert not (genai.path / "tokenizer.json").samefile(folder / "tokenizer.json")
    monkeypatch.setattr(os, "link", no_link)
    assert import_genai(genai.path) == folder
    assert not weights.samefile(folder / "model.onnx.data")
    assert weights.read_bytes() == (folder / "model.onnx.data").read_bytes()
    assert is_current(folder)


@pytest.mark.usefixtures("cache")
def test_weights_inside_the_graph(genai: Folder) -> None:
    """Weights may be in the graph's file, and their file may have another name."""
    (genai.path / "model.onnx.data").rename(genai.path / "weights.bin")

    def rename(model: object) -> None:
        for tensor in model.graph.initializer:  # type: ignore[attr-defined]
            tensor.external_data[0].value = "weights.bin"

    genai.change(rename)
    assert is_current(import_genai(genai.path))


def test_nothing_is_left_of_a_failure(
    genai: Folder, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the folder cannot be written, the one that was there stays."""
    folder = import_genai(genai.path)
    monkeypatch.setattr("rapport.models.genai.writer.spec_of", no_link)
    monkeypatch.setattr(os, "link", no_link)
    monkeypatch.setattr("shutil.copyfile", no_link)
    with pytest.raises(CacheError, match=r"then run: rapport models add .*tiny-genai"):
        import_genai(genai.path)
    assert is_current(folder)
    assert [path.name for path in (cache / "models/tiny-genai").iterdir()] == ["int4"]


@pytest.mark.usefixtures("cache")
def test_a_known_models_name_is_not_taken(genai: Folder) -> None:
    """A folder does not pass for a known model."""
    with pytest.raises(UnsupportedModelError, match="give it a --name"):
        import_genai(genai.path, name="smollm2-135m-instruct")


def test_commands(genai: Folder, cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`add` shows the plan; the folder is listed, shown, verified and removed."""
    assert main(["add", str(genai.path), "--name", "Own"]) == 0
    plan = capsys.readouterr().out.splitlines()
    assert plan[0] == "own: llama of onnxruntime-genai, 2 layers, context of 128 tokens"
    assert plan[-1] == f"{cache}/models/own/int4"
    assert main(["list"]) == 0
    assert "own  int4" in capsys.readouterr().out
    for command in ("show", "verify", "remove"):
        assert main([command, "own"]) == 0
    assert f"folder: {genai.path}" in capsys.readouterr().out
    assert (genai.path / "model.onnx.data").stat().st_nlink == 1
    assert not list((cache / "models").iterdir())


@pytest.mark.usefixtures("cache")
def test_sampling_is_that_of_the_folder(genai: Folder) -> None:
    """`search` counts if it samples; generation_config.json goes before it."""
    assert GenaiModel(genai.path).sampling_defaults.given == {}
    about = json.loads((genai.path / "genai_config.json").read_text())
    about["search"] |= {"do_sample": True, "temperature": 0.6, "top_k": 20, "top_p": 7}
    (genai.path / "genai_config.json").write_text(json.dumps(about))
    (genai.path / "generation_config.json").write_text('{"top_k": 40}')
    spec = ModelSpec.read(import_genai(genai.path))
    assert spec.sampling_defaults.given == {
        "temperature": 0.6,
        "top_k": 40,
        "repetition_penalty": 1.0,
    }


@pytest.mark.usefixtures("cache")
def test_text(genai: Folder) -> None:
    """Text and template are those of the folder."""
    folder = import_genai(genai.path)
    spec = ModelSpec.read(folder)
    vocabulary = Vocabulary.read(folder, spec.vocab_size)
    assert vocabulary.decode(vocabulary.encode("Größe 😀")) == "Größe 😀"
    assert vocabulary.special_tokens["<|im_end|>"] == 258
    assert ChatTemplate.read(folder)
