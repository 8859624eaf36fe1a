from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFWriter, quantize

from bench.errors import BenchError
from bench.versus.figures import Setup
from bench.versus.peers import check_requantised, command, find_llama_server


def write(path: Path, values: np.ndarray, kind: GGMLQuantizationType) -> Path:
    writer = GGUFWriter(path, "llama")
    writer.add_tensor("blk.0.ffn_up.weight", quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_requantised_weights_are_within_half_a_step(tmp_path: Path) -> None:
    """Q8_0 of the same values passes, Q8_0 of others does not."""
    values = np.random.default_rng(0).normal(size=(64, 128)).astype(np.float32)
    source = write(tmp_path / "a.Q4_1.gguf", values, GGMLQuantizationType.F32)
    check_requantised(source, write(tmp_path / "b.gguf", values, GGMLQuantizationType.Q8_0))
    values[3, 5] += 0.1
    wrong = write(tmp_path / "c.gguf", values, GGMLQuantizationType.Q8_0)
    with pytest.raises(BenchError, match="ffn_up"):
        check_requantised(source, wrong)


def test_every_slot_has_its_context(tmp_path: Path) -> None:
    """llama-server divides the context among its slots, so it is given that much for each."""
    line = command(tmp_path, tmp_path, Setup(8, 1024, ("--spec-type", "ngram-simple")))
    assert line[line.index("--ctx-size") + 1] == "8192"
    assert line[-2:] == ["--spec-type", "ngram-simple"]


def test_a_program_that_cannot_run_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also the one that the environment names; without any, the way to get it is reported."""
    monkeypatch.setenv("LLAMA_SERVER", str(tmp_path / "none"))
    with pytest.raises(BenchError, match="cannot be run"):
        find_llama_server(None)
    monkeypatch.delenv("LLAMA_SERVER")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BenchError, match="make bench-versus"):
        find_llama_server(None)
