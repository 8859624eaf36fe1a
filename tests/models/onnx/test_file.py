"""Weights go to the data file, once, where ONNX looks for them."""

from __future__ import annotations

import io

import numpy as np
import pytest
from onnx import TensorProto

from rapport.models.onnx.file import ALIGNMENT_BYTES, OnnxWriter


@pytest.fixture
def data() -> io.BytesIO:
    return io.BytesIO()


def test_large_weights_are_external_and_aligned(data: io.BytesIO) -> None:
    """Each large array is in the data file, at a page, byte for byte."""
    onnx = OnnxWriter(data, "weights")
    arrays = [np.arange(count, dtype=np.float32) for count in (100, 5000, 17)]
    names = [onnx.constant(array) for array in arrays]
    tensors = onnx.model([], []).graph.initializer
    assert [tensor.name for tensor in tensors] == names
    for tensor, array in zip(tensors, arrays, strict=True):
        place = {entry.key: entry.value for entry in tensor.external_data}
        start, length = int(place["offset"]), int(place["length"])
        assert place["location"] == "weights"
        assert start % ALIGNMENT_BYTES == 0
        assert data.getvalue()[start : start + length] == array.tobytes()


def test_small_constants_are_inline(data: io.BytesIO) -> None:
    """Shapes can be read without the data file."""
    onnx = OnnxWriter(data, "weights")
    onnx.constant(np.array([-1, 64]))
    [tensor] = onnx.model([], []).graph.initializer
    assert tensor.data_location == TensorProto.DEFAULT
    assert data.getvalue() == b""


def test_strided_arrays_are_written_in_order(data: io.BytesIO) -> None:
    """A transposed view is written as what it shows."""
    array = np.arange(200, dtype=np.float32).reshape(10, 20).T
    OnnxWriter(data, "weights").constant(array)
    assert data.getvalue() == np.ascontiguousarray(array).tobytes()


def test_names_are_unique(data: io.BytesIO) -> None:
    """No two tensors of a graph share a name."""
    onnx = OnnxWriter(data, "weights")
    names = [onnx.node("Neg", "x") for _ in range(3)] + [onnx.constant(np.zeros(1))]
    assert len(set(names)) == 4
