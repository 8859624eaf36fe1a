"""Blocks of weights keep their values on the way to ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize
from hypothesis import given
from hypothesis import strategies as st

from rapport.models.weights import matrix as weights
from rapport.models.weights.blocks import FORMATS
from rapport.models.weights.matrix import F16, F32, Matrix, Quantised, joined, quantised, widened


def random_matrix(kind: GGMLQuantizationType, outputs: int, blocks: int, seed: int) -> Matrix:
    """Blocks of any bits at all, but for scales that are finite."""
    random = np.random.default_rng(seed)
    size = GGML_QUANT_SIZES[kind][1]
    rows = random.integers(0, 256, (outputs, blocks, size), dtype=np.uint8)
    for place in FORMATS[kind].halves:
        halves = random.standard_normal((outputs, blocks, 1)).astype(np.float16)
        rows[:, :, place : place + 2] = halves.view(np.uint8)
    return Matrix(kind, rows.reshape(outputs, -1))


def computed(packed: Quantised) -> np.ndarray:
    """What MatMulNBits and the correction take the weights to be."""
    quants = packed.quants
    if packed.bits == 4:
        pairs = np.stack([quants & 0x0F, quants >> 4], axis=-1)
        quants = pairs.reshape(*quants.shape[:2], -1)
    zero = 2 ** (packed.bits - 1) if packed.zero_points is None else packed.zero_points[:, :, None]
    weights = packed.scales[:, :, None] * (quants.astype(np.float32) - zero)
    if packed.offsets is not None:
        weights += packed.offsets.T[:, :, None]
    return weights.reshape(len(weights), -1)


@given(
    kind=st.sampled_from([kind.name for kind in FORMATS]),
    outputs=st.integers(1, 5),
    blocks=st.integers(1, 4),
    seed=st.integers(0, 2**32 - 1),
)
def test_quantised_keeps_values(kind: str, outputs: int, blocks: int, seed: int) -> None:
    """Whatever the bits of the blocks, unpacked weights are those that gguf itself computes."""
    type_ = GGMLQuantizationType[kind]
    matrix = random_matrix(type_, outputs, blocks, seed)
    packed, format_ = quantised(matrix), FORMATS[type_]
    assert (packed.bits, packed.block) == (format_.bits, format_.group)
    assert (packed.offsets is not None) == format_.has_offsets
    expected = dequantize(matrix.rows, type_)
    largest = np.abs(expected).max()
    np.testing.assert_allclose(computed(packed), expected, rtol=1e-5, atol=1e-5 * largest)
    np.testing.assert_array_equal(matrix.floats(), expected)


@given(
    kind=st.sampled_from([kind.name for kind in FORMATS]),
    outputs=st.integers(1, 5),
    blocks=st.integers(1, 5),
    seed=st.integers(0, 2**32 - 1),
)
def test_widened_weights_are_half_a_step_away(
    kind: str, outputs: int, blocks: int, seed: int
) -> None:
    """In 8 bits a weight is within half a step of its block, and what fills up a block is zero."""
    matrix = random_matrix(GGMLQuantizationType[kind], outputs, blocks, seed)
    packed = widened(matrix)
    assert packed.quants.shape == (outputs, -(-matrix.inputs // 64), 64)
    wanted = np.zeros((outputs, packed.quants.shape[1] * 64), np.float32)
    wanted[:, : matrix.inputs] = matrix.floats()
    steps = np.repeat(packed.scales, 64, axis=1)
    assert (np.abs(computed(packed) - wanted) <= 0.5001 * steps).all()
    assert (computed(packed)[wanted == 0] == 0).all()


def test_widened_steps_are_a_255th_of_the_range() -> None:
    """They are no larger than the range of a block's weights and 0 makes them."""
    matrix = random_matrix(GGMLQuantizationType.Q4_1, outputs=4, blocks=6, seed=1)
    blocks = matrix.floats().reshape(4, 3, 64)
    ranges = np.maximum(blocks.max(-1), 0) - np.minimum(blocks.min(-1), 0)
    np.testing.assert_allclose(widened(matrix).scales, ranges / 255, rtol=1e-6)


def test_zeros_are_widened_to_zeros() -> None:
    """A block without a range has a scale nevertheless."""
    packed = widened(Matrix(GGMLQuantizationType.Q4_0, np.zeros((2, 18), np.uint8)))
    assert (packed.scales == 1).all()
    assert (computed(packed) == 0).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    ("kind", "place"),
    [
        *[("Q4_0", 0), ("Q4_1", 0), ("Q4_1", 2), ("Q5_0", 0), ("Q5_1", 2), ("Q8_0", 0)],
        *[("Q2_K", 80), ("Q2_K", 82), ("Q3_K", 108), ("Q4_K", 2), ("Q5_K", 0), ("Q6_K", 208)],
        *[("IQ4_NL", 0), ("IQ4_XS", 0)],
    ],
)
def test_a_scale_or_offset_that_is_no_number_is_found(kind: str, place: int, value: float) -> None:
    """In the second of two blocks, here."""
    type_ = GGMLQuantizationType[kind]
    size = GGML_QUANT_SIZES[type_][1]
    rows = np.ones((1, 2 * size), np.uint8)
    assert Matrix(type_, rows).finite
    place += size
    rows[0, place : place + 2] = np.array([value], np.float16).view(np.uint8)
    assert not Matrix(type_, rows).finite


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("kind", [F32, F16])
def test_a_float_that_is_no_number_is_found(kind: GGMLQuantizationType, value: float) -> None:
    rows = np.ones((2, 32), np.float32 if kind == F32 else np.float16)
    assert Matrix(kind, rows).finite
    rows[1, 31] = value
    assert not Matrix(kind, rows).finite


def test_sizes_count_weights() -> None:
    """A matrix tells its size in weights, whatever its blocks take."""
    matrix = random_matrix(GGMLQuantizationType.Q4_1, outputs=3, blocks=2, seed=0)
    assert (matrix.outputs, matrix.inputs) == (3, 64)
    assert (Matrix(F16, np.ones((2, 5), np.float16)).inputs) == 5


@pytest.mark.parametrize("convert", [quantised, widened])
@pytest.mark.parametrize("kind", ["Q4_K", "Q6_K"])
def test_joined_has_the_outputs_of_all(convert: Callable[[Matrix], Quantised], kind: str) -> None:
    """In order, with their offsets or zero points."""
    parts = [random_matrix(GGMLQuantizationType[kind], 2, 1, seed) for seed in (1, 2)]
    both = joined([convert(part) for part in parts])
    assert (both.outputs, both.inputs) == (4, 256)
    expected = np.concatenate([computed(convert(part)) for part in parts])
    np.testing.assert_array_equal(computed(both), expected)


def test_large_matrices_are_converted_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The parts make the whole, and none is larger than it may be."""
    matrix = random_matrix(GGMLQuantizationType.Q4_K, outputs=5, blocks=1, seed=3)
    whole = quantised(matrix)
    monkeypatch.setattr(weights, "PART_WEIGHTS", 512)
    assert [part.outputs for part in matrix.parts()] == [2, 2, 1]
    np.testing.assert_array_equal(computed(quantised(matrix)), computed(whole))


def test_reordered_moves_whole_rows() -> None:
    """Reordering a quantised matrix reorders its outputs."""
    matrix = random_matrix(GGMLQuantizationType.Q4_1, outputs=3, blocks=2, seed=4)
    order = np.array([2, 0, 1])
    np.testing.assert_array_equal(matrix.reordered(order).floats(), matrix.floats()[order])
