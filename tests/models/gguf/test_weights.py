"""Blocks of weights keep their values on the way to ONNX Runtime."""

from __future__ import annotations

import numpy as np
import pytest
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize
from hypothesis import given
from hypothesis import strategies as st

from rapport.models.gguf.weights import F16, F32, Matrix, Quantised, quantised, stacked, widened


def random_matrix(kind: GGMLQuantizationType, outputs: int, blocks: int, seed: int) -> Matrix:
    """Blocks of any bits at all, but for scales that are finite."""
    random = np.random.default_rng(seed)
    size = GGML_QUANT_SIZES[kind][1]
    rows = random.integers(0, 256, (outputs, blocks, size), dtype=np.uint8)
    halves = 2 if kind == GGMLQuantizationType.Q4_1 else 1
    scales = random.standard_normal((outputs, blocks, halves)).astype(np.float16)
    rows[:, :, : 2 * halves] = scales.view(np.uint8)
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
    kind=st.sampled_from(["Q4_0", "Q4_1", "Q8_0"]),
    outputs=st.integers(1, 5),
    blocks=st.integers(1, 4),
    seed=st.integers(0, 2**32 - 1),
)
def test_quantised_keeps_values(kind: str, outputs: int, blocks: int, seed: int) -> None:
    """Whatever the bits of the blocks, unpacked weights are those that gguf itself computes."""
    type_ = GGMLQuantizationType[kind]
    matrix = random_matrix(type_, outputs, blocks, seed)
    packed = quantised(matrix)
    assert packed is not None
    expected = dequantize(matrix.rows, type_)
    np.testing.assert_allclose(computed(packed), expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(matrix.floats(), expected)


@given(
    kind=st.sampled_from(["Q4_0", "Q4_1"]),
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
    assert packed.quants.shape == (outputs, -(-blocks // 2), 64)
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
    ("kind", "place"), [("Q4_0", 18), ("Q4_1", 20), ("Q4_1", 22), ("Q8_0", 34)]
)
def test_a_scale_or_offset_that_is_no_number_is_found(kind: str, place: int, value: float) -> None:
    """In the second of two blocks, here."""
    type_ = GGMLQuantizationType[kind]
    rows = np.ones((1, 2 * GGML_QUANT_SIZES[type_][1]), np.uint8)
    assert Matrix(type_, rows).finite
    rows[0, place : place + 2] = np.array([value], np.float16).view(np.uint8)
    assert not Matrix(type_, rows).finite


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("kind", [F32, F16])
def test_a_float_that_is_no_number_is_found(kind: GGMLQuantizationType, value: float) -> None:
    rows = np.ones((2, 32), np.float32 if kind == F32 else np.float16)
    assert Matrix(kind, rows).finite
    rows[1, 31] = value
    assert not Matrix(kind, rows).finite


@pytest.mark.parametrize("kind", [F32, F16])
def test_floats_are_not_quantised(kind: GGMLQuantizationType) -> None:
    """A matrix of floats stays one."""
    rows = np.ones((2, 32), np.float32 if kind == F32 else np.float16)
    matrix = Matrix(kind, rows)
    assert quantised(matrix) is None
    assert matrix.floats().dtype == np.float32


def test_sizes_count_weights() -> None:
    """A matrix tells its size in weights, whatever its blocks take."""
    matrix = random_matrix(GGMLQuantizationType.Q4_1, outputs=3, blocks=2, seed=0)
    assert (matrix.outputs, matrix.inputs) == (3, 64)
    assert (Matrix(F16, np.ones((2, 5), np.float16)).inputs) == 5


def test_stacked_keeps_a_common_kind() -> None:
    """Matrices of one kind are stacked without being dequantised."""
    parts = [random_matrix(GGMLQuantizationType.Q8_0, 2, 1, seed) for seed in (1, 2)]
    both = stacked(parts)
    assert both.kind == GGMLQuantizationType.Q8_0
    np.testing.assert_array_equal(both.floats(), np.concatenate([p.floats() for p in parts]))


def test_stacked_mixes_kinds_as_floats() -> None:
    """Matrices of different kinds are stacked as floats."""
    parts = [random_matrix(GGMLQuantizationType[kind], 2, 1, 3) for kind in ("Q4_1", "Q8_0")]
    both = stacked(parts)
    assert both.kind == F32
    np.testing.assert_array_equal(both.floats(), np.concatenate([p.floats() for p in parts]))


def test_reordered_moves_whole_rows() -> None:
    """Reordering a quantised matrix reorders its outputs."""
    matrix = random_matrix(GGMLQuantizationType.Q4_1, outputs=3, blocks=2, seed=4)
    order = np.array([2, 0, 1])
    np.testing.assert_array_equal(matrix.reordered(order).floats(), matrix.floats()[order])
