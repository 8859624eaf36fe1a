"""Names of schemas."""

from __future__ import annotations

from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool

from rapport.gateway.openapi.names import Names


def test_ambiguous_names() -> None:
    """Messages of the same name in two packages, or named Error, have their full names."""
    pool = DescriptorPool()
    for package in ("a.v1", "b.v1"):
        file = FileDescriptorProto(name=f"{package}.proto", package=package)
        file.message_type.add(name="Same").nested_type.add(name="Inner")
        file.message_type.add(name="Error")
        field = file.message_type.add(name=f"Root{package[0]}").field.add(name="one", number=1)
        field.type, field.type_name = FieldDescriptorProto.TYPE_MESSAGE, f".{package}.Same"
        pool.Add(file)
    find = pool.FindMessageTypeByName
    roots = [find("a.v1.Roota"), find("b.v1.Rootb"), find("a.v1.Same.Inner"), find("a.v1.Error")]
    names = Names(roots, roots[:1])
    assert [names.of(kind, read=True) for kind in roots] == [
        "RootaInput",
        "Rootb",
        "Same.Inner",
        "a.v1.Error",
    ]
    assert names.of(find("a.v1.Same"), read=False) == "a.v1.Same"
    assert names.of(find("a.v1.Same"), read=True) == "a.v1.SameInput"
    assert names.of(find("b.v1.Same"), read=True) == "b.v1.Same"
