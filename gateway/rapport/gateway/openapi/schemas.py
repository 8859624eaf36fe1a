"""JSON Schemas of messages, as the codec reads and writes them."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from itertools import combinations, product
from typing import Any, cast

import orjson
from google.api import field_behavior_pb2
from google.protobuf.descriptor import (
    Descriptor,
    EnumDescriptor,
    FieldDescriptor,
    OneofDescriptor,
)

from rapport.gateway.openapi.comments import Comments
from rapport.gateway.openapi.limits import key_limits, list_limits, map_limits, value_limits
from rapport.gateway.openapi.names import Kind, Names
from rapport.gateway.openapi.scalars import Schema, key, or_null, scalar
from rapport.gateway.transcoding.codec import rules

NULL: Schema = {"type": "null"}


class Schemas:
    """The schemas of messages that are read, or of those that are written.

    Limits of fields are those of requests, so only what is read has them.

    What is read is `closed` if unknown members are refused. What is written is open:
    a member that is added later is nothing to stumble over.
    """

    def __init__(self, names: Names, comments: Comments, *, read: bool, closed: bool) -> None:
        self.components: dict[str, Schema] = {}
        self._names = names
        self._comments = comments
        self._read = read
        self._closed = closed

    def message(self, message: Descriptor) -> Schema:
        """A reference to the message's schema, or the schema of what it holds inline."""
        if rules.message_rule(message).shape == rules.INLINE and not _holds_inline(message):
            return self.value(rules.inline_field(message))
        return self._component(message, lambda: self._shape(message))

    def without(self, message: Descriptor, names: Collection[str]) -> Schema:
        """The schema of an object that has not all of the message's members."""
        schema = self._shape(message)
        kept = {name: of for name, of in schema.get("properties", {}).items() if name not in names}
        required = [name for name in schema.pop("required", []) if name in kept]
        return {**schema, "properties": kept, **({"required": required} if required else {})}

    def value(self, field: FieldDescriptor) -> Schema:
        """The schema of the field's value when it is set."""
        if rules.is_map(field):
            return self._map(field)
        one = {**self._one(field), **(value_limits(field) if self._read else {})}
        if field.is_repeated:
            return {"type": "array", "items": one, **(list_limits(field) if self._read else {})}
        return one

    def described(self, field: FieldDescriptor, schema: Schema) -> Schema:
        """The schema with what the field's comment and options say."""
        text = self._comments.of(field)
        deprecated = {"deprecated": True} if field.GetOptions().deprecated else {}
        return {**schema, **({"description": text} if text else {}), **deprecated}

    def _component(self, kind: Kind, make: Any) -> Schema:
        name = self._names.of(kind, read=self._read)
        if name not in self.components:
            self.components[name] = {}  # A message inside itself refers to it.
            text = self._comments.of(kind)
            self.components[name] |= {"description": text} if text else {}
            self.components[name] |= make()
        return {"$ref": f"#/components/schemas/{name}"}

    def _shape(self, message: Descriptor) -> Schema:
        shape = rules.message_rule(message).shape
        if shape == rules.INLINE:
            return self.value(rules.inline_field(message))
        if shape == rules.UNION:
            arms = rules.union_arms(message)
            return {"anyOf": [self.described(arm, self.value(arm)) for arm in arms]}
        oneofs = [m for m in rules.members(message) if isinstance(m, OneofDescriptor)]
        variants = [self._object(message, arms) for arms in product(*(o.fields for o in oneofs))]
        if self._read and rules.message_rule(message).text_arm:
            variants.append({"type": "string"})
        return variants[0] if len(variants) == 1 else {"oneOf": variants}

    def _object(self, message: Descriptor, arms: tuple[FieldDescriptor, ...]) -> Schema:
        """The message's object when of its tagged unions these arms are set."""
        made = _Object()
        chosen = iter(arms)
        for member in rules.members(message):
            if isinstance(member, OneofDescriptor):
                self._add_arm(made, next(chosen))
            else:
                self._add(made, member)
        if self._read:
            self._add_ignored(made, message)
        title = {"title": ", ".join(rules.json_name(arm) for arm in arms)} if arms else {}
        return {**title, **made.schema(closed=self._closed), **self._exclusions(message)}

    def _add(self, made: _Object, field: FieldDescriptor) -> None:
        schema, required = self.value(field), _is_required(field)
        if rules.field_rule(field).nullable if not self._read else not required:
            schema = or_null(schema)
        is_there = required if self._read else _is_always_shown(field)
        made.add(rules.json_name(field), self.described(field, schema), required=is_there)

    def _add_arm(self, made: _Object, arm: FieldDescriptor) -> None:
        name, tag = rules.json_name(arm), rules.tag_of(rules.oneof_of(arm))
        flat = rules.field_rule(arm).flat
        constant = {"type": "string", "const": name}
        made.add(tag, self.described(arm, constant) if flat else constant, required=True)
        if not flat:
            made.add(name, self.described(arm, self.value(arm)), required=True)
        for member in rules.payload(arm).fields if flat else ():
            self._add(made, member)

    def _add_ignored(self, made: _Object, message: Descriptor) -> None:
        """Members that are read and dropped, and the arms that are not set, as null."""
        for kind in (message, *_flat_payloads(message.fields)):
            for name in rules.message_rule(kind).drop:
                made.add(name, {"description": "Read and dropped."})
            for name in rules.message_rule(kind).drop_null:
                made.add(name, {**NULL, "description": "Read and dropped when null."})
            for each in rules.message_rule(kind).neutral:
                neutral = {"enum": [orjson.loads(each.value), None]}
                made.add(each.name, {**neutral, "description": "Read and dropped."})
        for arm in message.fields:
            if rules.tag_of(rules.oneof_of(arm)):
                for name in _payload_names(arm):
                    made.add(name, NULL)

    def _exclusions(self, message: Descriptor) -> Schema:
        """Of a oneof without a tag one member may be given."""
        if not self._read:
            return {}
        oneofs = {o.name: o for field in message.fields if (o := rules.oneof_of(field))}
        pairs = [
            {"not": {"required": [one, other], "properties": dict.fromkeys((one, other), _GIVEN)}}
            for oneof in oneofs.values()
            if not rules.tag_of(oneof)
            for one, other in combinations(map(rules.json_name, oneof.fields), 2)
        ]
        return {"allOf": pairs} if pairs else {}

    def _map(self, field: FieldDescriptor) -> Schema:
        keys, values = rules.map_entry(field)
        key_schema, value_schema = key(keys), self._one(values)
        if self._read:
            key_schema |= key_limits(field)
            value_schema |= value_limits(field)
        return {
            "type": "object",
            "additionalProperties": value_schema,
            **({"propertyNames": key_schema} if key_schema else {}),
            **(map_limits(field) if self._read else {}),
        }

    def _one(self, field: FieldDescriptor) -> Schema:
        """The schema of one value of the field."""
        if field.message_type is not None:
            return self.message(field.message_type)
        if field.type == FieldDescriptor.TYPE_ENUM:
            enum = cast("EnumDescriptor", field.enum_type)
            return self._component(enum, lambda: self._enum(enum, rules.spellings(field)))
        return scalar(field, read=self._read)

    def _enum(self, enum: EnumDescriptor, spellings: dict[str, int]) -> Schema:
        by_number = {value.number: value.name for value in enum.values}
        texts = [self._comments.of_value(enum, by_number[n]) for n in spellings.values()]
        notes = {"x-enum-descriptions": texts} if any(texts) else {}
        return {"type": "string", "enum": [*spellings], **notes}


_GIVEN: Schema = {"not": NULL}


class _Object:
    """An object's schema in the making. The first that adds a name has it."""

    def __init__(self) -> None:
        self._properties: dict[str, Schema] = {}
        self._required: list[str] = []

    def add(self, name: str, schema: Schema, *, required: bool = False) -> None:
        if name not in self._properties:
            self._properties[name] = schema
            self._required += [name] if required else []

    def schema(self, *, closed: bool) -> Schema:
        return {
            "type": "object",
            "properties": self._properties,
            **({"required": self._required} if self._required else {}),
            **({"additionalProperties": False} if closed else {}),
        }


def _holds_inline(message: Descriptor) -> bool:
    """Whether it may hold itself with no object in between."""
    held = rules.inline_field(message).message_type
    return held is not None and rules.message_rule(held).shape == rules.INLINE


def _flat_payloads(fields: Iterable[FieldDescriptor]) -> list[Descriptor]:
    return [rules.payload(field) for field in fields if rules.field_rule(field).flat]


def _payload_names(arm: FieldDescriptor) -> list[str]:
    fields = rules.payload(arm).fields if rules.field_rule(arm).flat else [arm]
    return [rules.json_name(field) for field in fields]


def _is_required(field: FieldDescriptor) -> bool:
    behaviors = field.GetOptions().Extensions[field_behavior_pb2.field_behavior]
    return field_behavior_pb2.REQUIRED in behaviors


def _is_always_shown(field: FieldDescriptor) -> bool:
    rule = rules.field_rule(field)
    if rule.nullable or field.has_presence:
        return rule.nullable
    if field.type == FieldDescriptor.TYPE_ENUM and not field.is_repeated:
        return 0 in rules.spellings(field).values()
    return not rule.omit_empty
