"""Encodes messages to JSON values, with functions compiled once from descriptors."""

from __future__ import annotations

import base64
import struct
from collections.abc import Callable
from functools import partial
from operator import attrgetter
from typing import Any, cast

import orjson
from google.protobuf.descriptor import Descriptor, FieldDescriptor, OneofDescriptor

from rapport.gateway.transcoding.codec import rules

Encode = Callable[[Any], Any]
Write = Callable[[Any, dict[str, Any]], None]


def encoder(message: Descriptor) -> Encode:
    """Compiles the function from a message of this type to a value for orjson.dumps.

    Raises:
        UnsupportedError: the message has no JSON form here.
    """
    return _Compiler().message(message)


class _Compiler:
    """Compiles encoders. None stands for "unset" and is shown only if an option says so."""

    def __init__(self) -> None:
        self._encoders: dict[str, Encode] = {}

    def message(self, message: Descriptor) -> Encode:
        name = message.full_name
        if name not in self._encoders:
            # A message inside itself finds the finished function when it runs.
            self._encoders[name] = partial(self._later, name)
            self._encoders[name] = self._compile(message)
        return self._encoders[name]

    def _later(self, name: str, value: Any) -> Any:
        return self._encoders[name](value)

    def _compile(self, message: Descriptor) -> Encode:
        shape = rules.message_rule(message).shape
        if shape == rules.UNION:
            return self._union(rules.union_arms(message))
        if shape == rules.INLINE:
            return self._member(rules.inline_field(message))
        return _object([self._writer(member) for member in rules.members(message)])

    def _union(self, arms: list[FieldDescriptor]) -> Encode:
        encoders = {arm.name: self._member(arm) for arm in arms}
        oneof = cast("OneofDescriptor", arms[0].containing_oneof).name

        def union(message: Any) -> Any:
            arm = message.WhichOneof(oneof)
            return encoders[arm](message) if arm else None

        return union

    def _writer(self, member: FieldDescriptor | OneofDescriptor) -> Write:
        if isinstance(member, OneofDescriptor):
            return self._tagged(member)
        return self._field(member)

    def _tagged(self, oneof: OneofDescriptor) -> Write:
        tag, name = rules.tag_of(oneof), oneof.name
        arms = {
            field.name: (rules.json_name(field), self._payload(field)) for field in oneof.fields
        }

        def tagged(message: Any, out: dict[str, Any]) -> None:
            arm = message.WhichOneof(name)
            if arm:
                out[tag], payload = arms[arm]
                payload(message, out)

        return tagged

    def _payload(self, field: FieldDescriptor) -> Write:
        encode = self._member(field)
        if rules.field_rule(field).flat:
            return lambda message, out: out.update(encode(message))
        key = rules.json_name(field)
        return lambda message, out: out.__setitem__(key, encode(message))

    def _field(self, field: FieldDescriptor) -> Write:
        key, rule, show = rules.json_name(field), rules.field_rule(field), self._shown(field)
        if field.has_presence:
            return _if_set(field.name, key, show, nullable=rule.nullable)
        if rule.nullable:
            return lambda message, out: out.__setitem__(key, show(message) or None)
        if field.type == FieldDescriptor.TYPE_ENUM and not field.is_repeated:
            return _if_true(key, show, show)
        if rule.omit_empty:
            return _if_true(key, show, attrgetter(field.name))
        return lambda message, out: out.__setitem__(key, show(message))

    def _member(self, field: FieldDescriptor) -> Encode:
        """The function from the message that has the field to its JSON value; None if unset."""
        show, name = self._shown(field), field.name
        if not field.has_presence:
            return show
        return lambda message: show(message) if message.HasField(name) else None

    def _shown(self, field: FieldDescriptor) -> Encode:
        """As `_member`, for a field that is known to be set."""
        rules.check(field)
        get = attrgetter(field.name)
        if rules.is_map(field):
            return self._map(get, field)
        value = self._value(field)
        if field.is_repeated:
            return _list(get, value)
        return get if value is None else lambda message: value(get(message))

    def _map(self, get: Encode, field: FieldDescriptor) -> Encode:
        keys, values = rules.map_entry(field)
        rules.check(values)
        key = _bool_key if keys.type == FieldDescriptor.TYPE_BOOL else str
        value = self._value(values) or _same

        def mapping(message: Any) -> dict[str, Any]:
            shown = ((key(name), value(item)) for name, item in get(message).items())
            return {name: item for name, item in shown if item is not None}

        return mapping

    def _value(self, field: FieldDescriptor) -> Encode | None:
        """The function from a field's value to JSON; None if the value is used as it is."""
        if field.message_type is not None:
            return self.message(field.message_type)
        if field.type == FieldDescriptor.TYPE_ENUM:
            return _enum(field)
        if rules.field_rule(field).raw == rules.RAW_JSON:
            return _raw_json
        return _ENCODERS.get(field.type)


def _object(writes: list[Write]) -> Encode:
    def encode(message: Any) -> dict[str, Any]:
        out: dict[str, Any] = {}
        for write in writes:
            write(message, out)
        return out

    return encode


def _if_set(name: str, key: str, show: Encode, *, nullable: bool) -> Write:
    def write(message: Any, out: dict[str, Any]) -> None:
        value = show(message) if message.HasField(name) else None
        if value is not None or nullable:
            out[key] = value

    return write


def _if_true(key: str, show: Encode, test: Encode) -> Write:
    def write(message: Any, out: dict[str, Any]) -> None:
        if test(message):
            out[key] = show(message)

    return write


def _list(get: Encode, value: Encode | None) -> Encode:
    # Slicing a repeated field of protobuf is several times faster than iterating over it.
    if value is None:
        return lambda message: get(message)[:]
    return lambda message: [item for item in map(value, get(message)[:]) if item is not None]


def _enum(field: FieldDescriptor) -> Encode:
    names: dict[int, str] = {}
    for name, number in rules.spellings(field).items():
        names.setdefault(number, name)
    # A number from a newer proto is shown as a number; 0 without a spelling is "unset".
    return lambda number: names.get(number, number or None)


def _raw_json(text: str) -> Any:
    """JSON text as the JSON that it is; other text as a string, which decodes to the same text."""
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return text
    # A line break between JSON tokens would end the line in an event stream.
    return orjson.Fragment(text.replace("\n", " ").replace("\r", " "))


def _shortest(value: float) -> float:
    """The number with the fewest digits that is equal in float32."""
    for digits in (6, 7, 8):
        short = float(f"{value:.{digits}g}")
        if struct.unpack("f", struct.pack("f", short))[0] == value:
            return short
    return float(f"{value:.9g}")


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode()


def _bool_key(key: bool) -> str:  # noqa: FBT001 - a map's key
    return "true" if key else "false"


def _same(value: Any) -> Any:
    return value


_ENCODERS: dict[int, Encode] = {
    FieldDescriptor.TYPE_FLOAT: _shortest,
    FieldDescriptor.TYPE_BYTES: _base64,
}
