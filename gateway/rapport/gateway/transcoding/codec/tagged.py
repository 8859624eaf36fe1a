"""Tagged unions: a member of the object names the arm."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from google.protobuf.descriptor import FieldDescriptor, OneofDescriptor

from rapport.gateway.transcoding.codec import rules
from rapport.gateway.transcoding.codec.scalars import one_of
from rapport.gateway.transcoding.codec.unions import Members, Read
from rapport.gateway.transcoding.codec.violations import Path, Violation


class TaggedUnion:
    """A oneof whose arm is named by a member, the tag, of the object that it is part of."""

    def __init__(self, oneof: OneofDescriptor, compile_field: Callable[..., Read]) -> None:
        self.tag = rules.tag_of(oneof)
        self._arms = {rules.json_name(field): field for field in oneof.fields}
        self._members = {
            name: _flat(field, compile_field)
            if rules.field_rule(field).flat
            else {name: compile_field(field)}
            for name, field in self._arms.items()
        }
        payloads = {name for members in self._members.values() for name in members}
        self.names = [self.tag, *sorted(payloads)]
        self._any = dict.fromkeys(self.names, _skip)

    def select(
        self, value: dict[str, Any], target: Any, where: Path, violations: list[Violation]
    ) -> Members:
        """The members that the tag of `value` allows. Sets the arm and requires its payload."""
        tag: Any = value.get(self.tag)
        field = self._arms.get(tag) if type(tag) is str else None
        if field is None:
            missing = self.tag not in value
            problem = "Field required" if missing else one_of(self._arms)
            violations.append(Violation(where.member(self.tag), problem))
            return self._any
        members = self._members[tag]
        if rules.field_rule(field).flat:
            getattr(target, field.name).SetInParent()
        elif tag not in value:
            violations.append(Violation(where.member(tag), "Field required"))
        elif value[tag] is None:
            members[tag](None, target, where.member(tag), violations)
        return {self.tag: _skip, **members}


def _flat(field: FieldDescriptor, compile_field: Callable[..., Read]) -> Members:
    def inside(read: Read) -> Read:
        return lambda item, target, where, violations: read(
            item, getattr(target, field.name), where, violations
        )

    return {
        rules.json_name(member): inside(compile_field(member))
        for member in rules.payload(field).fields
    }


def _skip(item: Any, target: Any, where: Path, violations: list[Violation]) -> None:
    """Ignores a member that `select` has read."""
