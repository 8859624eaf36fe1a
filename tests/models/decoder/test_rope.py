"""Rotary frequencies; whole models are compared in tests/models/onnx/test_graph.py."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rapport.models.decoder.rope import Rope, read_rope, unscaled_rope
from rapport.models.errors import CorruptFileError
from rapport.models.gguf.reader import GgufFile

YARN = (
    *(("rope.scaling.type", "yarn"), ("rope.scaling.factor", 4.0)),
    ("rope.scaling.original_context_length", 1024),
)


def test_tables_are_of_positions() -> None:
    cos, sin = Rope(np.array([1.0, 0.5]), magnitude=2.0).tables(3)
    np.testing.assert_allclose(cos[2], 2 * np.cos([2, 1]), rtol=1e-6)
    np.testing.assert_allclose(sin[1], 2 * np.sin([1, 0.5]), rtol=1e-6)


def test_yarn_keeps_fast_dimensions_and_divides_slow_ones(tiny_gguf: Callable[..., Path]) -> None:
    rope, plain = read_rope(GgufFile(tiny_gguf(keys=YARN)), 64, 128), unscaled_rope(64, 100000.0)
    ratios = plain.frequencies / rope.frequencies
    assert ratios[0] == 1
    assert ratios[-1] == 4
    assert (np.diff(ratios) >= 0).all()
    assert rope.magnitude == pytest.approx(0.1 * np.log(4) + 1)


@pytest.mark.parametrize(
    "departures",
    [
        {"extra": (("rope_freqs.weight", (5,)),)},
        {"keys": (("rope.freq_base", -1.0),)},
        {"keys": (("rope.scaling.type", "linear"), ("rope.scaling.factor", 0.0))},
        {"keys": (("rope.scaling.type", "yarn"), ("rope.scaling.factor", 2.0))},
        {"keys": (*YARN, ("rope.freq_base", 1.0))},
    ],
)
def test_what_makes_no_sense_is_refused(
    tiny_gguf: Callable[..., Path], departures: dict[str, Any]
) -> None:
    with pytest.raises(CorruptFileError, match="rope"):
        read_rope(GgufFile(tiny_gguf(**departures)), 16, 128)
