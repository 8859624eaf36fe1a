"""Decodes JSON values to messages, with functions compiled once from descriptors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

import orjson
from google.protobuf.descriptor import Descriptor, FieldDescriptor, OneofDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from rapport.gateway.transcoding.codec import rules, unions
from rapport.gateway.transcoding.codec.scalars import ScalarError, converter, key_converter
from rapport.gateway.transcoding.codec.tagged import TaggedUnion
from rapport.gateway.transcoding.codec.unions import Read
from rapport.gateway.transcoding.codec.violations import (
    ROOT,
    InvalidError,
    Path,
    TooDeepError,
    TooManyError,
    Violation,
    Violations,
    extra,
)

# The items of one list or map. Decoding an item takes about a microsecond.
MAX_ITEMS = 100_000


def decoder(message: Descriptor, *, ignore_unknown: bool) -> Callable[[Any], Message]:
    """Compiles the function from a JSON value to a message of this type.

    The function raises InvalidError with all violations, up to `MAX_VIOLATIONS`.

    Raises:
        UnsupportedError: the message has no JSON form here.
    """
    read, new = _Compiler(ignore_unknown=ignore_unknown).message(message), GetMessageClass(message)

    def decode(value: Any) -> Message:
        target, violations = new(), Violations()
        with suppress(TooManyError):
            try:
                read(value, target, ROOT, violations)
            except TooDeepError:
                violations[:] = [Violation(ROOT, "Input should not be nested so deeply")]
        if violations:
            raise InvalidError(violations)
        return target

    return decode


class _Compiler:
    """Compiles readers. A field's reader gets the message that has the field."""

    def __init__(self, *, ignore_unknown: bool) -> None:
        self._ignore_unknown = ignore_unknown
        self._readers: dict[str, Read] = {}

    def message(self, message: Descriptor) -> Read:
        name = message.full_name
        if name not in self._readers:
            # A message inside itself finds the finished function when it runs.
            self._readers[name] = partial(self._later, name)
            self._readers[name] = self._compile(message)
        return self._readers[name]

    def _later(self, name: str, *args: Any) -> None:
        self._readers[name](*args)

    def _compile(self, message: Descriptor) -> Read:
        shape = rules.message_rule(message).shape
        if shape == rules.UNION:
            return unions.by_type(rules.union_arms(message), self._field)
        if shape == rules.INLINE:
            return self._field(rules.inline_field(message))
        return self._object(message)

    def _object(self, message: Descriptor) -> Read:
        members = list(rules.members(message))
        fields = [member for member in members if isinstance(member, FieldDescriptor)]
        oneofs = [member for member in members if isinstance(member, OneofDescriptor)]
        plain = {rules.json_name(field): _exclusive(field, self._field(field)) for field in fields}
        tagged = [TaggedUnion(oneof, self._field) for oneof in oneofs]
        arms = (name for union in tagged for name in union.names)
        _check_names(message, [*map(rules.json_name, fields), *arms])
        unknown = self._unknown(message, tagged)
        text_arm = rules.message_rule(message).text_arm

        def read(value: Any, target: Any, where: Path, violations: list[Violation]) -> None:
            if text_arm and type(value) is str:
                value = {tagged[0].tag: text_arm, text_arm: value}
            if type(value) is not dict:
                violations.append(Violation(where, "Input should be a valid dictionary"))
                return
            known: Mapping[str, Read] = plain
            for union in tagged:
                known = {**known, **union.select(value, target, where, violations)}
            for key, item in value.items():
                if key not in known:
                    unknown(item, where.member(key), violations, key)
                elif item is not None:
                    known[key](item, target, where.member(key), violations)

        return read

    def _unknown(self, message: Descriptor, tagged: list[TaggedUnion]) -> Callable[..., None]:
        ruled = [rules.message_rule(kind) for kind in (message, *_flat_payloads(message))]
        drop = {name for rule in ruled for name in rule.drop}
        # The arms of a tagged union that are not set may be present as null.
        unset = {name for union in tagged for name in union.names}
        neutral = {each.name: orjson.loads(each.value) for rule in ruled for each in rule.neutral}
        drop_null = {name for rule in ruled for name in rule.drop_null}.union(unset, neutral)
        foreign = {name for rule in ruled for name in rule.foreign}

        def unknown(item: Any, where: Path, violations: list[Violation], key: str) -> None:
            dropped = key in drop or (item is None and key in drop_null)
            if not dropped and not self._ignore_unknown and not _is_neutral(key, item, neutral):
                violations.append(extra(where, item, is_foreign=key in foreign))

        return unknown

    def _field(self, field: FieldDescriptor) -> Read:
        rules.check(field)
        if rules.is_map(field):
            return self._map(field)
        if field.is_repeated and field.message_type is not None:
            return _messages(field.name, self.message(field.message_type))
        if field.is_repeated:
            return _each(field.name, _scalar_item(field))
        if field.message_type is not None:
            return _message(field.name, self.message(field.message_type))
        return _scalar(field)

    def _map(self, field: FieldDescriptor) -> Read:
        keys, value = rules.map_entry(field)
        rules.check(value)
        key_of = key_converter(keys)
        read = (
            _map_message(self.message(value.message_type))
            if value.message_type is not None
            else _map_scalar(value)
        )

        def read_map(item: Any, target: Any, where: Path, violations: list[Violation]) -> None:
            if type(item) is not dict:
                violations.append(Violation(where, "Input should be a valid dictionary"))
                return
            if len(item) > MAX_ITEMS:
                violations.append(_too_long(where))
                return
            entries = getattr(target, field.name)
            for name, entry in item.items():
                try:
                    key = key_of(name)
                except ScalarError as error:
                    violations.append(Violation(where.member(name), str(error)))
                else:
                    read(entry, (entries, key), where.member(name), violations)

        return read_map


def _is_neutral(key: str, item: Any, neutral: dict[str, Any]) -> bool:
    # False is not 0 here.
    return key in neutral and type(item) is type(neutral[key]) and item == neutral[key]


def _too_long(where: Path) -> Violation:
    return Violation(where, f"Input should have at most {MAX_ITEMS} items")


def _flat_payloads(message: Descriptor) -> list[Descriptor]:
    return [rules.payload(field) for field in message.fields if rules.field_rule(field).flat]


def _check_names(message: Descriptor, names: list[str]) -> None:
    duplicates = sorted({name for name in names if names.count(name) > 1})
    if duplicates:
        raise rules.UnsupportedError(f"{message.full_name}: two members named {duplicates}")


def _exclusive(field: FieldDescriptor, read: Read) -> Read:
    """Refuses a second arm of an untagged oneof."""
    oneof = rules.oneof_of(field)
    if oneof is None:
        return read
    name = oneof.name

    def read_exclusive(item: Any, target: Any, where: Path, violations: list[Violation]) -> None:
        other = target.WhichOneof(name)
        if other:
            violations.append(Violation(where, f"Input should not be given with '{other}'"))
        else:
            read(item, target, where, violations)

    return read_exclusive


def _scalar(field: FieldDescriptor) -> Read:
    name, convert = field.name, converter(field)

    def read(item: Any, target: Any, where: Path, violations: list[Violation]) -> None:
        try:
            setattr(target, name, convert(item))
        except ScalarError as error:
            violations.append(Violation(where, str(error)))

    return read


def _message(name: str, fill: Read) -> Read:
    def read(item: Any, target: Any, where: Path, violations: list[Violation]) -> None:
        part = getattr(target, name)
        part.SetInParent()
        fill(item, part, where, violations)

    return read


def _scalar_item(field: FieldDescriptor) -> Read:
    convert = converter(field)

    def read(item: Any, target: Any, where: Path, violations: list[Violation]) -> None:
        try:
            target.append(convert(item))
        except ScalarError as error:
            violations.append(Violation(where, str(error)))

    return read


def _messages(name: str, fill: Read) -> Read:
    return _each(
        name, lambda item, target, where, violations: fill(item, target.add(), where, violations)
    )


def _each(name: str, read_item: Read) -> Read:
    def read(value: Any, target: Any, where: Path, violations: list[Violation]) -> None:
        if type(value) is not list:
            violations.append(Violation(where, "Input should be a valid list"))
            return
        if len(value) > MAX_ITEMS:
            violations.append(_too_long(where))
            return
        items = getattr(target, name)
        for index, item in enumerate(value):
            read_item(item, items, where.item(index), violations)

    return read


def _map_scalar(field: FieldDescriptor) -> Read:
    convert = converter(field)

    def read(item: Any, target: Any, where: Path, violations: list[Violation]) -> None:
        entries, key = target
        try:
            entries[key] = convert(item)
        except ScalarError as error:
            violations.append(Violation(where, str(error)))

    return read


def _map_message(fill: Read) -> Read:
    def read(item: Any, target: Any, where: Path, violations: list[Violation]) -> None:
        entries, key = target
        fill(item, entries[key], where, violations)

    return read
