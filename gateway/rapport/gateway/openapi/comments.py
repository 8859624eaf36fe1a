"""The comments of proto files, as descriptions."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

import orjson
from google.protobuf.descriptor import EnumDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet

# AIP-192 has internal comments in (-- --); buf's are instructions to its linter.
_INTERNAL = re.compile(r"\(--.*?--\)|^\s*buf:lint:ignore[^\n]*", re.DOTALL | re.MULTILINE)
_EXAMPLE = re.compile(r"^```json\n(.*?)^```$", re.DOTALL | re.MULTILINE)


class Comments:
    """Texts by the name of what they describe; there are none if the files have no source info.

    A file from protoc has it with --include_source_info, one from reflection if the
    server keeps it.
    """

    def __init__(self, files: FileDescriptorSet) -> None:
        self._texts = {name: text for file in files.file for name, text in _comments(file) if text}

    def of(self, descriptor: Any) -> str:
        """The text of a service, method, message, field or oneof; empty if it has none."""
        return _EXAMPLE.sub("", self._texts.get(descriptor.full_name, "")).strip()

    def examples(self, descriptor: Any) -> list[Any]:
        """Its examples: what stands between ```json and ```, each on a line of its own."""
        blocks = _EXAMPLE.findall(self._texts.get(descriptor.full_name, ""))
        with suppress(orjson.JSONDecodeError):
            return [orjson.loads(block) for block in blocks]
        return []

    def of_value(self, enum: EnumDescriptor, name: str) -> str:
        return self._texts.get(f"{enum.full_name}.{name}", "")


def _comments(file: FileDescriptorProto) -> Iterator[tuple[str, str]]:
    for location in file.source_code_info.location:
        text = location.leading_comments or location.trailing_comments
        name = _name(file, location.path) if text else None
        if name:
            yield name, _cleaned(text)


def _name(file: FileDescriptorProto, path: Sequence[int]) -> str | None:
    """The full name of what is at a path of field numbers and indices; None if it has none."""
    node: Any = file
    names = [file.package] if file.package else []
    for number, index in zip(path[::2], path[1::2], strict=False):
        field = node.DESCRIPTOR.fields_by_number.get(number)
        if field is None or field.message_type is None or not field.is_repeated:
            return None
        node = getattr(node, field.name)[index]
        names.append(getattr(node, "name", ""))
    return ".".join(names) if path and len(path) % 2 == 0 and all(names) else None


def _cleaned(text: str) -> str:
    lines = [line.removeprefix(" ").rstrip() for line in text.splitlines()]
    return _INTERNAL.sub("", "\n".join(lines)).strip()
