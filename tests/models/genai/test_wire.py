"""Messages are counted before they are parsed."""

from __future__ import annotations

import pytest
from onnx import ModelProto, helper

from rapport.models.genai.wire import MalformedMessageError, has_more_fields


def test_count() -> None:
    """Each value counts, in messages within messages as well."""
    graph = helper.make_graph([helper.make_node("Add", ["a", "b"], ["c"])], "g", [], [])
    model = ModelProto(ir_version=10, graph=graph)
    # ir_version, graph, its name, a node, three names, the operator.
    data = model.SerializeToString()
    assert not has_more_fields(data, ModelProto, 8)
    assert has_more_fields(data, ModelProto, 7)


@pytest.mark.parametrize(
    "data", [b"\x3a\x05\x00", b"\x3a", b"\xff" * 12, b"\x0b", b"\x0d\x00", b"\x09" + bytes(7)]
)
def test_damaged(data: bytes) -> None:
    """A field that ends behind its message, or of an unknown kind, is an error."""
    with pytest.raises(MalformedMessageError):
        has_more_fields(data, ModelProto, 100)
