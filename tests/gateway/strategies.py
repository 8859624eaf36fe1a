"""Random messages of any type, from descriptors and their REST options."""

from __future__ import annotations

from typing import Any

import orjson
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message_factory import GetMessageClass
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from rapport.gateway.transcoding.codec import rules
from rapport.gateway.transcoding.codec.encode import encoder

DEPTH = 4  # Deeper messages are left empty where that is allowed.

texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=8)
scalars = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | texts | st.floats()
values: SearchStrategy[Any] = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
# As the gateway writes it: an object or a list, for a string is taken to be JSON text.
documents = (st.lists(values, max_size=3) | st.dictionaries(texts, values, max_size=3)).map(
    lambda value: orjson.dumps(orjson.loads(orjson.dumps(value))).decode()
)
finite = {"allow_nan": False, "allow_infinity": False}


@st.composite
def messages(draw: DrawFn, descriptor: Descriptor, depth: int = 0) -> Any:
    """Any message that has a JSON form: unions have an arm, enums are specified."""
    message = GetMessageClass(descriptor)()
    for oneof in {
        oneof.name: oneof for field in descriptor.fields if (oneof := _arms(field))
    }.values():
        required = rules.tag_of(oneof) or rules.message_rule(descriptor).shape == rules.UNION
        arms = [arm for arm in oneof.fields if depth < DEPTH or _is_leaf(arm)] or oneof.fields[:1]
        if required or draw(st.booleans()):
            _fill(draw, message, draw(st.sampled_from(list(arms))), depth)
    for field in descriptor.fields:
        if not _arms(field) and (_must(field, depth) or draw(st.booleans())):
            _fill(draw, message, field, depth)
    return message


def _arms(field: FieldDescriptor) -> Any:
    return rules.oneof_of(field)


def _must(field: FieldDescriptor, depth: int) -> bool:
    """Whether the message has no JSON form without the field."""
    containing = field.containing_type
    inline = containing is not None and rules.message_rule(containing).shape == rules.INLINE
    return inline and field.has_presence and depth < 2 * DEPTH


def _is_leaf(field: FieldDescriptor) -> bool:
    return field.message_type is None


def _fill(draw: DrawFn, message: Any, field: FieldDescriptor, depth: int) -> None:
    required = field.has_presence and (_must(field, depth) or _arms(field) is not None)
    if field.message_type is not None and depth >= DEPTH and not required:
        return
    if rules.is_map(field):
        _fill_map(draw, getattr(message, field.name), field, depth)
    elif field.is_repeated:
        items = draw(st.lists(_value(field, depth), max_size=3))
        getattr(message, field.name).extend(items)
    elif field.message_type is not None:
        getattr(message, field.name).CopyFrom(draw(_value(field, depth)))
        getattr(message, field.name).SetInParent()
    else:
        setattr(message, field.name, draw(_value(field, depth)))


def _fill_map(draw: DrawFn, entries: Any, field: FieldDescriptor, depth: int) -> None:
    key, value = rules.map_entry(field)
    for name, item in draw(
        st.dictionaries(_value(key, depth), _value(value, depth), max_size=3)
        if value.message_type is None
        else st.lists(st.tuples(_value(key, depth), _value(value, depth)), max_size=3).map(dict)
    ).items():
        if value.message_type is None:
            entries[name] = item
        else:
            entries[name].CopyFrom(item)


def _value(field: FieldDescriptor, depth: int) -> SearchStrategy[Any]:
    if field.message_type is not None:
        return messages(field.message_type, depth + 1)
    if field.cpp_type in rules.INT_RANGES:
        return st.integers(*rules.INT_RANGES[field.cpp_type])
    if field.type == FieldDescriptor.TYPE_ENUM:
        return st.sampled_from(sorted({*rules.spellings(field).values()}))
    if rules.field_rule(field).raw == rules.RAW_JSON:
        return documents
    return {
        FieldDescriptor.TYPE_STRING: texts,
        FieldDescriptor.TYPE_BYTES: st.binary(max_size=8),
        FieldDescriptor.TYPE_BOOL: st.booleans(),
        FieldDescriptor.TYPE_DOUBLE: st.floats(**finite),
        FieldDescriptor.TYPE_FLOAT: st.floats(width=32, **finite),
    }[field.type]


@st.composite
def near_misses(draw: DrawFn, descriptor: Descriptor) -> Any:
    """JSON that is often almost a message: one with some of its values replaced."""

    encoded = orjson.loads(orjson.dumps(encoder(descriptor)(draw(messages(descriptor)))))
    return _spoil(draw, encoded)


def _spoil(draw: DrawFn, value: Any) -> Any:
    if draw(st.integers(0, 9)) == 0:
        return draw(values)
    if isinstance(value, dict):
        spoilt = {key: _spoil(draw, item) for key, item in value.items()}
        return spoilt | draw(st.dictionaries(texts, values, max_size=1))
    if isinstance(value, list):
        return [_spoil(draw, item) for item in value]
    return value
