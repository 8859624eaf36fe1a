"""Llama 3's factors; other kinds of scaling are compared with transformers in test_model.py."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from rapport.models.errors import CorruptFileError
from rapport.models.huggingface.model import HuggingFaceModel

LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 1000,
}


def test_llama3_divides_slow_dimensions(tiny_folder: Callable[..., Path]) -> None:
    """Those that turn less than once in the original context, and others in part.

    Of 8 dimensions the fifth turns 1.59 times, and keeps (1.59 - 1) / (4 - 1) of its frequency.
    """
    rope = HuggingFaceModel(tiny_folder(rope_parameters=LLAMA3)).architecture.rope
    plain = 10000.0 ** (-np.arange(0, 16, 2) / 16)
    kept = (1000 * plain[4] / (2 * np.pi) - 1) / 3
    divisors = [1, 1, 1, 1, 1 / ((1 - kept) / 8 + kept), 8, 8, 8]
    np.testing.assert_allclose(plain / rope.frequencies, divisors, rtol=1e-6)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"low_freq_factor": 4.0}, "low_freq_factor 4.0 is not below high_freq_factor 4.0"),
        ({"factor": None}, "factor is None, not a positive number"),
        ({"rope_type": "longrope"}, "rope_factors_.* is not 8 positive factors"),
        ({"rope_type": "longrope", "long_factor": ["a"]}, "long_factor is no list of numbers"),
    ],
)
def test_what_makes_no_sense_is_refused(
    tiny_folder: Callable[..., Path], change: dict[str, object], reason: str
) -> None:
    with pytest.raises(CorruptFileError, match=reason):
        HuggingFaceModel(tiny_folder(rope_parameters=LLAMA3 | change))
