"""What a machine serves is what its CPU is fast with."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from rapport.common.model_spec import ModelSpec
from rapport.models.onnx import precision
from rapport.models.onnx.precision import (
    CUDA_PRECISIONS,
    PRECISIONS,
    cpu_precision,
    cpu_precisions,
    cuda_precision,
)

FLAGS = "processor : 0\nflags\t\t: fpu avx2 {} avx512_bitalg\n"


@pytest.fixture
def cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file in which Linux tells the CPU's features."""
    file = tmp_path / "cpuinfo"
    monkeypatch.setattr(precision, "CPU_FEATURES", file)
    return file


@pytest.mark.parametrize(
    ("feature", "weights"),
    [("avx512_vnni", "int8"), ("avx512f", "int4"), ("avx512_vnni2", "int4"), ("avx_vnni", "int4")],
)
def test_bytes_where_the_cpu_multiplies_them(cpu: Path, feature: str, weights: str) -> None:
    """Weights have 8 bits where the instruction for them is there, else the 4 of the file."""
    cpu.write_text(FLAGS.format(feature), encoding="utf-8")
    assert cpu_precision() == weights
    *packed, last = cpu_precisions()
    assert set(packed) == {"int4", "int8"}
    assert last == "float32"
    assert cpu_precisions(int8_cache=True) == [f"{each}-kv8" for each in packed]


def test_a_machine_that_tells_no_features_gets_4_bits(cpu: Path) -> None:
    assert not cpu.exists()
    assert cpu_precision() == "int4"


@pytest.mark.parametrize("feature", ["avx512_vnni", "avx2"])
def test_weights_that_are_asked_for(cpu: Path, feature: str) -> None:
    """They are served whatever the CPU is fast with."""
    cpu.write_text(FLAGS.format(feature), encoding="utf-8")
    assert cpu_precisions("int4") == ["int4"]
    assert cpu_precisions("int8", int8_cache=True) == ["int8-kv8"]


def test_what_is_served_can_be_imported() -> None:
    served = {*CUDA_PRECISIONS, *cpu_precisions(), *cpu_precisions(int8_cache=True)}
    assert served <= PRECISIONS.keys()


def test_a_gpu_has_float16_weights_unless_others_are_asked_for() -> None:
    served = [cuda_precision(), cuda_precision("int4"), cuda_precision("int8")]
    assert served == ["float16", "int4-float16", "int8-float16"]
    assert set(served) <= set(CUDA_PRECISIONS)


def test_the_engine_takes_what_can_be_imported() -> None:
    assert set(get_args(ModelSpec.model_fields["precision"].annotation)) == PRECISIONS.keys()
