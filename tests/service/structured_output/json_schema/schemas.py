"""A strategy for JSON Schemas of what is supported."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

Json = dict[str, Any]

names = st.sampled_from(["a", "b", "c", "kind", "ü", 'q"'])
scalars = st.none() | st.booleans() | st.integers(-999, 999) | st.text('aé\n"\\', max_size=4)
constants = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(names, inner, max_size=2)
)
patterns = st.sampled_from(["^[a-c]{1,3}$", "^x", "^(?:ab|cd)+$", r"^\d{2}-\w$"])
formats = st.sampled_from(
    ["date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri"]
)


def optional(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Json]:
    return st.fixed_dictionaries({}, optional=fields)


def merged(*strategies: st.SearchStrategy[Json]) -> st.SearchStrategy[Json]:
    return st.tuples(*strategies).map(
        lambda parts: {k: v for part in parts for k, v in part.items()}
    )


def ranges(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Json]:
    lower = st.sampled_from(["minimum", "exclusiveMinimum"])
    upper = st.sampled_from(["maximum", "exclusiveMaximum"])
    pairs = st.tuples(values, values, lower, upper)
    both = pairs.map(lambda p: {p[2]: min(p[:2]), p[3]: max(p[:2]) + 2})
    return st.just({}) | both | st.tuples(lower, values).map(lambda p: {p[0]: p[1]})


def sizes(low: str, high: str, most: int) -> st.SearchStrategy[Json]:
    pairs = st.tuples(st.integers(0, most), st.integers(0, most))
    return pairs.map(lambda p: {low: min(p), high: max(p)})


integers = merged(
    st.just({"type": "integer"}),
    ranges(st.integers(-(10**6), 10**6)),
    st.just({}) | st.sampled_from([2, 7]).map(lambda n: {"multipleOf": n}),
)
numbers = merged(st.just({"type": "number"}), ranges(st.integers(-1000, 1000).map(lambda n: n / 8)))
strings = merged(
    st.just({"type": "string"}),
    sizes("minLength", "maxLength", 6)
    | patterns.map(lambda p: {"pattern": p})
    | formats.map(lambda f: {"format": f}),
)
leaves = st.one_of(
    st.just({"type": "null"}),
    st.just({"type": "boolean"}),
    st.just({"type": ["string", "null"], "maxLength": 5}),
    integers,
    numbers,
    strings,
    st.lists(constants, min_size=1, max_size=4).map(lambda values: {"enum": values}),
    constants.map(lambda value: {"const": value}),
    st.sampled_from([{"$ref": "#/$defs/list"}, {"$ref": "#/definitions/word"}]),
)


@st.composite
def objects(draw: st.DrawFn, inner: st.SearchStrategy[Any]) -> Json:
    properties = draw(st.dictionaries(names, inner, max_size=4))
    schema: Json = {"type": "object", "properties": properties}
    schema["required"] = [name for name in properties if draw(st.booleans())]
    more = draw(st.sampled_from(["absent", "no", "some"]))
    if more != "absent":
        schema["additionalProperties"] = False if more == "no" else draw(inner)
    return schema


def arrays(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Json]:
    return merged(
        st.just({"type": "array"}),
        sizes("minItems", "maxItems", 3),
        optional(items=inner, prefixItems=st.lists(inner, min_size=1, max_size=2)),
    )


def combinations(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Json]:
    several = st.lists(inner, min_size=1, max_size=3)
    parts = st.lists(objects(inner), min_size=1, max_size=2)
    return st.one_of(
        several.map(lambda options: {"anyOf": options}),
        several.map(lambda options: {"oneOf": options}),
        parts.map(lambda all_of: {"allOf": all_of}),
        st.tuples(objects(inner), parts, st.sampled_from(["anyOf", "oneOf"])).map(
            lambda p: {**p[0], p[2]: p[1]}
        ),
        st.tuples(objects(inner), parts).map(lambda p: {"anyOf": p[1], "allOf": [p[0]]}),
    )


DEFINITIONS: Json = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "$defs": {
        "list": {
            "type": "object",
            "properties": {
                "value": {"type": "integer", "minimum": 0, "maximum": 9},
                "next": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/list"}]},
            },
            "required": ["value", "next"],
        }
    },
    "definitions": {"word": {"type": "string", "pattern": "^[a-z]{1,5}$"}},
}
schemas = st.recursive(
    leaves,
    lambda inner: st.one_of(objects(inner), arrays(inner), combinations(inner)),
    max_leaves=8,
).map(lambda schema: {**DEFINITIONS, **schema})
