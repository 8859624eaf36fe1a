"""Comments of protos: what readers of the reference get to see."""

from __future__ import annotations

from google.protobuf.descriptor_pb2 import FileDescriptorSet

from rapport.gateway.openapi.comments import Comments
from tests.gateway.library import descriptor_set, message, pool, rpc


def comments(old: bytes = b"", new: bytes = b"") -> Comments:
    return Comments(FileDescriptorSet.FromString(descriptor_set().replace(old, new)))


def test_found_by_name() -> None:
    """Comments before and beside a declaration are its text, whatever it declares."""
    book, beside = message("Book").DESCRIPTOR, message("Beside").DESCRIPTOR
    assert comments().of(beside) == "Two tagged unions in one object."
    assert comments().of(book.fields_by_name["number"]) == "What it is filed under."
    assert comments().of(rpc("StreamTell")) == "Tells it piece by piece."
    genre = pool().FindEnumTypeByName("toy.v1.Genre")
    assert comments().of_value(genre, "GENRE_NOVEL") == "A long story."
    assert comments().of_value(genre, "GENRE_POETRY") == ""
    assert comments().of(book) == ""


def test_without_what_is_not_for_readers() -> None:
    """Examples, internal comments and instructions to linters are no part of the text."""
    assert comments().of(rpc("Tell")) == "Tells it, `count` times."


def test_examples() -> None:
    """Blocks of JSON are examples; if one is broken there are none."""
    expected = [{"count": 1, "size": 3}, {"text": "xxx", "metadata": {}, "total": 1}]
    assert comments().examples(rpc("Tell")) == expected
    assert (
        comments(b'{"count": 1, "size": 3}', b'{"count": 1, "size": 3 ').examples(rpc("Tell")) == []
    )
    assert comments().examples(rpc("StreamTell")) == []


def test_files_without_source_info() -> None:
    """Descriptors without source info have no comments, which is no error."""
    files = FileDescriptorSet.FromString(descriptor_set())
    for file in files.file:
        file.ClearField("source_code_info")
    assert Comments(files).of(rpc("Tell")) == ""
