from __future__ import annotations

import json
import time
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, event, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from rapport.service.engine.sampling.constraint import Grammar
from rapport.service.engine.sampling.grammar_compiler import GrammarCompiler, GrammarError
from rapport.service.engine.text.vocabulary import Vocabulary
from rapport.service.errors import InvalidRequestError
from rapport.service.structured_output.json_schema import budget
from rapport.service.structured_output.json_schema.grammar import schema_grammar, translate_schema
from rapport.service.structured_output.strict_json import parse_json
from tests.service.structured_output.json_schema.schemas import schemas
from tests.service.structured_output.sampling import accepts, sample

FIELD = "response_format.schema"
CAT = {
    "type": "object",
    "properties": {"kind": {"const": "cat", "default": "cat"}, "lives": {"type": "integer"}},
}
DOG = {"type": "object", "properties": {"kind": {"const": "dog"}, "tail": {"type": "boolean"}}}


@pytest.fixture(scope="module")
def compiled(compiler: GrammarCompiler) -> Any:
    def compiled(schema: Any) -> Grammar:
        return compiler.compile(schema_grammar(schema, FIELD, strict=True).text)

    return compiled


def takes(grammar: Grammar, vocabulary: Vocabulary, text: str) -> bool:
    return accepts(grammar, vocabulary.encode_text(text))


def violations(schema: Any) -> dict[str, str]:
    with pytest.raises(InvalidRequestError) as caught:
        translate_schema(schema, FIELD, strict=True)
    return {v.field.removeprefix(FIELD): v.description for v in caught.value.violations}


@settings(max_examples=200, suppress_health_check=list(HealthCheck))
@given(schemas, st.integers(0, 2**32), st.sampled_from([0, 0.3, 1.5, 100]))
def test_output_is_valid(
    compiler: GrammarCompiler,
    vocabulary: Vocabulary,
    schema: dict[str, Any],
    seed: int,
    temperature: float,
) -> None:
    """Whatever is drawn under a schema ends, and is valid, at any temperature."""
    try:
        grammar = compiler.compile(schema_grammar(schema, FIELD, strict=True).text)
    except (InvalidRequestError, GrammarError) as error:
        event(f"refused: {str(error)[:60]}")
        assume(False)
    value = json.loads(sample(grammar, vocabulary.token_bytes, seed, temperature))
    Draft202012Validator(schema).validate(value)


def test_keys_come_in_the_order_of_properties(compiled: Any, vocabulary: Vocabulary) -> None:
    """Properties come out in the schema's own order, required or not."""
    names = ["z", "a", "m", "b"]
    flag = {"type": "boolean"}
    schema = {"type": "object", "properties": dict.fromkeys(names, flag), "required": ["b", "z"]}
    for seed in range(20):
        value = json.loads(sample(compiled(schema), vocabulary.token_bytes, seed))
        assert list(value) == [name for name in names if name in value]
        assert {"b", "z"} <= value.keys()


def test_other_keys_are_kept_out(compiled: Any, vocabulary: Vocabulary) -> None:
    """Where properties are named, others may not come, also over allOf, anyOf and $ref."""
    base = {"properties": {"a": {"type": "null"}}, "required": ["a"]}
    schema = {
        "$defs": {"base": base},
        "type": "object",
        "allOf": [{"$ref": "#/$defs/base"}, {"properties": {"b": {"type": "null"}}}],
        "anyOf": [{"properties": {"c": {"type": "null"}}, "required": ["c"]}, {"required": ["b"]}],
    }
    grammar = compiled(schema)
    assert takes(grammar, vocabulary, '{"a": null, "b": null, "c": null}')
    assert takes(grammar, vocabulary, '{"a": null, "b": null}')
    assert not takes(grammar, vocabulary, '{"a": null}')
    assert not takes(grammar, vocabulary, '{"a": null, "b": null, "d": null}')


def test_other_keys_come_where_they_may(compiled: Any, vocabulary: Vocabulary) -> None:
    """additionalProperties and unevaluatedProperties open what would be closed."""
    for keyword in ("additionalProperties", "unevaluatedProperties"):
        schema = {"type": "object", "properties": {"a": {"type": "null"}}, keyword: True}
        assert takes(compiled(schema), vocabulary, '{"a": null, "b": [1]}')


def test_a_named_key_has_one_spelling(compiled: Any, vocabulary: Vocabulary) -> None:
    """A named key cannot come as an additional one by being written with escapes."""
    schema = {
        "type": "object",
        "properties": {"a": {"type": "integer"}},
        "additionalProperties": {"type": "string"},
    }
    assert takes(compiled(schema), vocabulary, '{"a": 1, "b": "x"}')
    assert not takes(compiled(schema), vocabulary, '{"\\u0061": "x"}')


def test_whitespace_cannot_go_on(compiled: Any, vocabulary: Vocabulary) -> None:
    """JSON may be compact, spaced or indented, and blanks end."""
    grammar = compiled({"type": "object"})
    for text in ('{"a":1}', '{"a": 1, "b": [1, 2]}', json.dumps({"a": {"b": [1]}}, indent=2)):
        assert takes(grammar, vocabulary, text)
    for text in ('{"a":  1}', '{"a":\n\n1}', "{" + "\n" + " " * 17 + "}", ' {"a":1}', '{"a":1} '):
        assert not takes(grammar, vocabulary, text)


def test_a_discriminator_is_required(compiled: Any, vocabulary: Vocabulary) -> None:
    """oneOf holds where a key tells the alternatives apart, which then must come."""
    schema = {
        "oneOf": [{"$ref": "#/$defs/Cat"}, {"$ref": "#/$defs/Dog"}],
        "discriminator": {"propertyName": "kind"},
        "$defs": {"Cat": CAT, "Dog": DOG},
    }
    grammar = compiled(schema)
    assert takes(grammar, vocabulary, '{"kind": "cat", "lives": 9}')
    assert takes(grammar, vocabulary, '{"kind": "dog", "tail": true}')
    assert not takes(grammar, vocabulary, '{"lives": 9}')
    assert not takes(grammar, vocabulary, '{"kind": "cat", "tail": true}')


def test_references_of_all_kinds(compiled: Any, vocabulary: Vocabulary) -> None:
    """Pointers, escapes, anchors, the document's own name and nested definitions resolve."""
    schema = {
        "$id": "https://example.com/it",
        "type": "array",
        "prefixItems": [
            {"$ref": "#/definitions/a~1b"},
            {"$ref": "#here"},
            {"$ref": "https://example.com/it#/$defs/c%20d"},
            {"$ref": "#/$defs/deep"},
            {"$ref": "#/prefixItems/0"},
        ],
        "items": False,
        "minItems": 5,
        "definitions": {"a/b": {"const": 1}, "e": {"$defs": {"deep": {"const": 4}}}},
        "$defs": {"c d": {"const": 3}, "x": {"$anchor": "here", "const": 2}},
    }
    assert takes(compiled(schema), vocabulary, "[1, 2, 3, 4, 1]")
    assert not takes(compiled(schema), vocabulary, "[1, 2, 3, 4, 2]")


def test_old_drafts(compiled: Any, vocabulary: Vocabulary) -> None:
    """Draft 4's exclusive bounds and draft 7's tuples mean what they meant."""
    schema = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "type": "array",
        "items": [{"type": "integer", "minimum": 1, "exclusiveMinimum": True, "maximum": 3}],
        "additionalItems": False,
        "minItems": 1,
    }
    assert takes(compiled(schema), vocabulary, "[2]")
    assert not takes(compiled(schema), vocabulary, "[1]")
    assert not takes(compiled(schema), vocabulary, "[2, 2]")


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("not", {"type": "null"}),
        ("contains", {"type": "null"}),
        ("uniqueItems", True),
        ("propertyNames", {"format": "uuid"}),
        ("dependentRequired", {"a": ["b"]}),
        ("dependentSchemas", {"a": {"type": "null"}}),
        ("$dynamicRef", "#x"),
        ("unevaluatedProperties", {"type": "null"}),
        ("format", "zip"),
        ("pattern", "(?=a)b"),
        ("multipleOf", 1_000_003),
        ("const", 2**53 + 1),
        ("minItems", 10**7),
        ("oneOf", [{"type": "integer"}, {"type": "number"}]),
    ],
)
def test_what_cannot_be_enforced_is_named(keyword: str, value: Any) -> None:
    """A keyword that cannot be enforced is refused with its path, wherever it is."""
    found = violations({"type": "object", "properties": {"a": {"items": {keyword: value}}}})
    (path, description), *more = found.items()
    assert (path, more) == (f".properties.a.items.{keyword}", [])
    assert description.startswith("JSON Schema not supported: ")


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("pattern", "("),
        ("pattern", r"\A"),
        ("pattern", "(?x)a"),
        ("pattern", r"^a\x07$"),
        ("const", "\x01"),
        ("const", {"\x01": 1}),
        ("enum", ["\x7f"]),
        ("required", ["\x01"]),
    ],
)
def test_what_no_value_can_satisfy_is_refused(keyword: str, value: Any) -> None:
    """What is wrong, or what the model cannot write, is refused though the schema is not strict."""
    schema = {"type": "object", "properties": {"a": {keyword: value}}}
    with pytest.raises(InvalidRequestError) as caught:
        translate_schema(schema, FIELD)
    assert [v.field for v in caught.value.violations] == [f"{FIELD}.properties.a.{keyword}"]


def test_annotations_are_welcome() -> None:
    """What only describes is taken and left out."""
    notes = {"title": "T", "default": 1, "x-order": 2, "$comment": "c", "deprecated": True}
    translated = translate_schema({"type": "null", **notes}, FIELD)
    assert translated.schema["type"] == "null"
    assert "title" not in translated.schema
    assert not translated.unenforced


def test_wrong_values_of_keywords() -> None:
    """A keyword with a wrong value is named, and so are all others that are wrong."""
    schema = {"anyOf": [{"type": "text"}, {"minLength": -1}], "required": "a"}
    prefix = "Error validating JSON Schema: "
    assert violations(schema) == {
        ".anyOf[0].type": f"{prefix}'type' should be a type or a list of types",
        ".anyOf[1].minLength": f"{prefix}'minLength' should be a count",
        ".required": f"{prefix}'required' should be a list of strings",
    }


@pytest.mark.parametrize(
    "reference",
    ["https://example.com/x", "#/$defs/none", "#none", "#/type", f"#/required/{'1' * 5000}"],
)
def test_references_that_lead_nowhere(reference: str) -> None:
    """A reference out of the document or to nothing is refused; nothing is fetched."""
    found = violations(
        {"type": "object", "properties": {"a": {"$ref": reference}}, "required": ["a"]}
    )
    assert found[".properties.a.$ref"].startswith("Error resolving schema reference")


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#"},
        {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]},
        {"type": "array", "items": {"$ref": "#"}, "minItems": 1},
        False,
    ],
)
def test_what_never_ends_is_refused(schema: Any) -> None:
    """A schema that no finite value has is refused."""
    assert list(violations(schema)) == [""]


def chained(length: int) -> dict[str, Any]:
    links = {
        f"d{i}": {"type": "object", "properties": {"x": {"$ref": f"#/$defs/d{i + 1}"}}}
        for i in range(length)
    }
    return {"$defs": {**links, f"d{length}": {"type": "null"}}, "$ref": "#/$defs/d0"}


def doubled(times: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(times):
        schema = {"allOf": [{"anyOf": [schema, {"type": "null"}]}] * 2}
    return schema


def referring(times: int) -> dict[str, Any]:
    big = {"allOf": [{} for _ in range(4000)]}
    uses = {f"p{i}": {"$ref": "#/$defs/big", "minLength": 1} for i in range(times)}
    return {"$defs": {"big": big}, "type": "object", "properties": uses}


def overlapping(count: int, keys: int) -> dict[str, Any]:
    names = [f"k{i}" for i in range(keys)]
    return {
        "oneOf": [
            {"type": "object", "properties": {n: {"const": min(i, count - 2)} for n in names}}
            for i in range(count)
        ]
    }


def nested(depth: int, inside: Any) -> Any:
    for _ in range(depth):
        inside = [inside]
    return inside


def in_a_row(count: int) -> dict[str, Any]:
    """Definitions of which each needs the one before, listed from the last."""
    links = {
        f"d{i}": {"type": "array", "minItems": 1, "prefixItems": [{"$ref": f"#/$defs/d{i - 1}"}]}
        for i in range(1, count)
    }
    last_first = [{"$ref": f"#/$defs/d{i}"} for i in reversed(range(count))]
    return {"$defs": {"d0": {"type": "null"}, **links}, "prefixItems": last_first[::-1]}


def patterned(parts: int, keys: int) -> dict[str, Any]:
    return {
        "allOf": [
            {"patternProperties": {f"^{key:03}x{part}.*y": {} for key in range(keys)}}
            for part in range(parts)
        ]
    }


def test_computing_ends_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it is that takes long: the thread is needed for others."""
    monkeypatch.setattr(budget, "MAX_CPU_S", -1)
    assert "too large or too intricate" in violations({"type": "string"})[""]


@pytest.mark.parametrize(
    "schema",
    [
        chained(2000),
        referring(2000),
        overlapping(80, 60),
        patterned(1, 1000),
        patterned(20, 20),
        {"const": {f"k{i}": i for i in range(8000)}},
        {"const": [[i] for i in range(20_000)]},
        {"oneOf": [{"const": nested(60, [])}, {"const": nested(60, 1)}]},
        {"allOf": [{"enum": [nested(60, {"a": n}), n]} for n in range(2)]},
        {"oneOf": [{"enum": [[i, n] for n in range(200)]} for i in range(120)]},
        in_a_row(3000),
        {
            "anyOf": [{"allOf": [{"$ref": "#/$defs/e"}]}] * 2000,
            "$defs": {"e": {"enum": [*range(9000)]}},
        },
        {"type": "string", "pattern": "(a|b)?" * 10_000},
        *(
            {
                "properties": {
                    f"p{i}": {"type": "string", "pattern": f"^[a-z]{{1,{i + 1}}}x$"}
                    for i in range(count)
                }
            }
            for count in (550, 800)
        ),
        {"properties": {f"p{i}": {} for i in range(1500)}, "minProperties": 1},
        {
            "properties": {f"p{i}": {} for i in range(2000)},
            "anyOf": [{"required": [f"p{i}"]} for i in range(2000)],
        },
        doubled(12),
        {"allOf": [{"type": "integer", "multipleOf": n} for n in (9973, 97, 89)]},
        {"type": "object", "properties": {f"p{i}": {"type": "string"} for i in range(3000)}},
        {"enum": [f"value {i}" for i in range(9000)]},
        {"type": "string", "pattern": "((a|aa|aaa){1,1000}){1,1000}b", "minLength": 5000},
        {"oneOf": [{"type": "object", "required": [f"k{i}"]} for i in range(9000)]},
    ],
)
def test_hostile_schemas_are_bounded(compiled: Any, schema: Any) -> None:
    """A schema made to hurt is refused or compiled in seconds, on a busy machine too."""
    began = time.process_time()
    with suppress(InvalidRequestError, GrammarError):
        compiled(parse_json(json.dumps(schema), FIELD))
    assert time.process_time() - began < 2


def test_alternatives_that_cannot_be_written(compiled: Any, vocabulary: Vocabulary) -> None:
    """An alternative is left out where it cannot be enforced and another one can."""
    decimal = {"type": "string", "pattern": r"^(?!^[-+.]*$)[+-]?0*\d*\.?\d*$"}
    schema = {"anyOf": [{"type": "number"}, decimal, {"type": "null"}]}
    assert not translate_schema(schema, FIELD).unenforced
    assert takes(compiled(schema), vocabulary, "1.5")
    assert not takes(compiled(schema), vocabulary, '"x"')
    for kept in ([decimal, {"type": "null"}], [{"type": "array", "uniqueItems": True}, {}]):
        assert translate_schema({"anyOf": kept}, FIELD).unenforced


def test_constants_that_cannot_be_written(compiled: Any, vocabulary: Vocabulary) -> None:
    """Of several constants those are left that can be written."""
    grammar = compiled({"enum": ["a", "\x01", 2**60]})
    assert takes(grammar, vocabulary, '"a"')
    assert not takes(grammar, vocabulary, '""')


def test_keys_of_patterns_that_cannot_be_enforced(vocabulary: Vocabulary, compiler: Any) -> None:
    """If key patterns are left out, other keys are not kept out in their place."""
    schema = {"type": "object", "patternProperties": {"(?=a)": {}}, "additionalProperties": False}
    source = schema_grammar(schema, FIELD)
    assert source.unenforced == (f"{FIELD}.patternProperties",)
    assert takes(compiler.compile(source.text), vocabulary, '{"a": 1}')


def test_all_patterns_of_keys_are_checked() -> None:
    """What is wrong with a pattern does not hide what is wrong with those behind it."""
    inner = {"uniqueItems": True}
    patterns = {"patternProperties": {"(?=a)": {}, "(": {"type": 1}, "b": inner, "(?=c)": inner}}
    found = violations(patterns)
    paths = ["", ".(.type", ".b.uniqueItems", ".(?=c).uniqueItems"]
    assert list(found) == [f".patternProperties{path}" for path in paths]
    del patterns["patternProperties"]["("]
    source = schema_grammar({"type": "object", **patterns}, FIELD)
    assert source.unenforced == (
        f"{FIELD}.patternProperties",
        f"{FIELD}.patternProperties.b.uniqueItems",
        f"{FIELD}.patternProperties.(?=c).uniqueItems",
    )


@pytest.mark.parametrize(
    ("schema", "path"),
    [
        ({"type": "array", "minItems": 3, "maxItems": 2}, ".minItems"),
        ({"type": "integer", "minimum": 2, "maximum": 1}, ".minimum"),
        ({"allOf": [{"type": "string"}, {"type": "null"}]}, ".allOf"),
        ({"patternProperties": {"a": {}, "b": {}}}, ".patternProperties"),
        (
            {
                "$defs": {"a": {"type": "string", "pattern": "^a$", "minLength": 2}},
                "properties": {"b": {"items": {"$ref": "#/$defs/a"}, "minItems": 1}},
                "required": ["b"],
            },
            ".$defs.a.pattern",
        ),
    ],
)
def test_what_only_the_engine_refuses(schema: Any, path: str) -> None:
    """The keyword for which the engine refuses a schema is named, in our words."""
    source = schema_grammar(schema, FIELD)
    assert source.if_refused is not None
    with pytest.raises(InvalidRequestError) as caught:
        source.if_refused()
    (violation,) = caught.value.violations
    assert violation.field == f"{FIELD}{path}"
    assert violation.description.startswith("JSON Schema not supported: ")


def test_keys_may_come_twice(compiled: Any, vocabulary: Vocabulary) -> None:
    """A key that no schema names may come twice; a named key comes once.

    A grammar without a bound on its keys would have to remember all that came.
    """
    assert takes(compiled({"type": "object"}), vocabulary, '{"a": 1, "a": 2}')
    named = {"properties": {"a": {"type": "integer"}}, "additionalProperties": True}
    assert not takes(compiled(named), vocabulary, '{"a": 1, "a": 2}')
