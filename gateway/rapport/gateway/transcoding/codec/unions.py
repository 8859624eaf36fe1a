"""Untagged unions: the JSON type of the value chooses the arm."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor, OneofDescriptor

from rapport.gateway.transcoding.codec import rules
from rapport.gateway.transcoding.codec.violations import Path, Violation

# Reads a JSON value into the message that has the field, and appends violations.
Read = Callable[[Any, Any, Path, list[Violation]], None]
Members = Mapping[str, Read]

_NUMBER = (int, float)
_TYPES: dict[int, tuple[type, ...]] = {
    FieldDescriptor.CPPTYPE_STRING: (str,),
    FieldDescriptor.CPPTYPE_ENUM: (str,),
    FieldDescriptor.CPPTYPE_BOOL: (bool,),
    FieldDescriptor.CPPTYPE_FLOAT: _NUMBER,
    FieldDescriptor.CPPTYPE_DOUBLE: _NUMBER,
    **dict.fromkeys(rules.INT_RANGES, _NUMBER),
}
_RAW_TYPES: dict[int, tuple[type, ...]] = {
    rules.RAW_JSON: (str, list, dict, bool, int, float),
    rules.RAW_TEXT: (str, list, dict),
}


@dataclass(frozen=True, slots=True)
class _Arm:
    label: str
    types: tuple[type, ...]
    item_types: tuple[type, ...]  # those of its list
    keys: frozenset[str] | None  # the members of its object; None if it takes any
    is_int: bool
    read: Read


def by_type(fields: list[FieldDescriptor], compile_field: Callable[..., Read]) -> Read:
    """Compiles the reader of a union: a value is read as the first field that takes its JSON type.

    If several take objects, the first that knows all members of the value is chosen; if several
    take lists, the first that takes the type of the first item.
    """
    arms = [_arm(field, compile_field(field)) for field in fields]
    takers = {kind: _takers(arms, kind) for kind in (str, bool, int, float, list, dict)}

    def read(value: Any, target: Any, where: Path, violations: list[Violation]) -> None:
        fitting = takers.get(type(value))
        for arm in [_covering(fitting, value)] if fitting else arms:
            arm.read(value, target, where.arm(arm.label), violations)

    return read


def _takers(arms: list[_Arm], kind: type) -> list[_Arm]:
    fitting = [arm for arm in arms if kind in arm.types]
    # An integer arm takes 1.0 only if no arm takes fractions.
    return sorted(fitting, key=lambda arm: arm.is_int != (kind is int))


def _covering(arms: list[_Arm], value: Any) -> _Arm:
    if len(arms) == 1 or type(value) not in (dict, list):
        return arms[0]
    if type(value) is list:
        covering = (arm for arm in arms if value and type(value[0]) in arm.item_types)
    else:
        covering = (arm for arm in arms if arm.keys is None or arm.keys.issuperset(value))
    return next(covering, arms[0])


def _arm(field: FieldDescriptor, read: Read) -> _Arm:
    keys = _keys(field.message_type) if field.message_type is not None else None
    is_int = field.cpp_type in rules.INT_RANGES
    return _Arm(_label(field), _types(field), _item_types(field), keys, is_int, read)


def _types(field: FieldDescriptor) -> tuple[type, ...]:
    """The JSON types that the field takes."""
    if rules.is_map(field):
        return (dict,)
    return (list,) if field.is_repeated else _element_types(field)


def _item_types(field: FieldDescriptor) -> tuple[type, ...]:
    """The JSON types that the items of the field's list take."""
    if rules.is_map(field):
        return ()
    if field.is_repeated:
        return _element_types(field)
    inner = field.message_type
    if inner is not None and rules.message_rule(inner).shape == rules.INLINE:
        return _item_types(rules.inline_field(inner))
    return ()


def _element_types(field: FieldDescriptor) -> tuple[type, ...]:
    """The JSON types of one value of the field."""
    if field.message_type is None:
        return _RAW_TYPES.get(rules.field_rule(field).raw) or _TYPES[field.cpp_type]
    shape = rules.message_rule(field.message_type).shape
    if shape == rules.INLINE:
        return _types(rules.inline_field(field.message_type))
    if shape == rules.UNION:
        arms = rules.union_arms(field.message_type)
        return tuple({kind for arm in arms for kind in _types(arm)})
    return (dict,)


def _keys(message: Descriptor) -> frozenset[str] | None:
    if rules.message_rule(message).shape:
        return None
    rule, names = rules.message_rule(message), set[str]()
    for member in rules.members(message):
        if isinstance(member, OneofDescriptor):
            names.add(rules.tag_of(member))
            for arm in member.fields:
                names |= _payload_keys(arm)
        else:
            names.add(rules.json_name(member))
    neutral = {each.name for each in rule.neutral}
    return frozenset(names.union(rule.drop, rule.drop_null, neutral))


def _payload_keys(arm: FieldDescriptor) -> set[str]:
    if rules.field_rule(arm).flat:
        return {rules.json_name(member) for member in rules.payload(arm).fields}
    return {rules.json_name(arm)}


def _label(field: FieldDescriptor) -> str:
    """The field's type as pydantic names it in the path of a union's arm."""
    if rules.is_map(field):
        return f"dict[str,{_label(rules.map_entry(field)[1])}]"
    if field.is_repeated:
        return f"list[{_element_label(field)}]"
    return _element_label(field)


def _element_label(field: FieldDescriptor) -> str:
    if field.message_type is not None:
        if rules.message_rule(field.message_type).shape == rules.INLINE:
            return _label(rules.inline_field(field.message_type))
        return field.message_type.name
    if field.type == FieldDescriptor.TYPE_BOOL:
        return "bool"
    if field.cpp_type in rules.INT_RANGES:
        return "int"
    numbers = (FieldDescriptor.TYPE_DOUBLE, FieldDescriptor.TYPE_FLOAT)
    return "float" if field.type in numbers else "str"
