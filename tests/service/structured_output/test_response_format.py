from __future__ import annotations

import json

import pytest

from rapport.service.engine.sampling.grammar_compiler import GrammarCompiler
from rapport.service.engine.text.vocabulary import Vocabulary
from rapport.service.errors import InvalidRequestError
from rapport.service.structured_output.alphabet import Alphabet
from rapport.service.structured_output.response_format import grammar_source
from rapport.v1.format_pb2 import JsonObjectFormat, ResponseFormat, TextFormat
from tests.service.structured_output.sampling import accepts, sample

SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
TEXT = json.dumps(SCHEMA)


def wrapped(**fields: object) -> ResponseFormat:
    return ResponseFormat(json_schema=json.dumps({"name": "it", **fields}))


@pytest.mark.parametrize("wanted", [ResponseFormat(), ResponseFormat(text=TextFormat())])
def test_text_is_free(wanted: ResponseFormat) -> None:
    """Text has no grammar."""
    assert grammar_source(wanted) is None


@pytest.mark.parametrize(
    "wanted",
    [
        ResponseFormat(json_object=JsonObjectFormat(schema=TEXT)),
        ResponseFormat(json_object=JsonObjectFormat(schema=json.dumps(TEXT))),
        ResponseFormat(json_schema=TEXT),
        ResponseFormat(json_schema=json.dumps(TEXT)),
        wrapped(schema=SCHEMA, strict=True, description="d"),
        wrapped(schema=TEXT, strict=None),
        ResponseFormat(json_schema=json.dumps({"schema": SCHEMA})),
    ],
)
def test_a_schema_in_all_its_forms(
    compiler: GrammarCompiler, vocabulary: Vocabulary, wanted: ResponseFormat
) -> None:
    """A schema counts bare, in OpenAI's wrapper, and as a JSON string in either."""
    source = grammar_source(wanted)
    assert source is not None
    grammar = compiler.compile(source.text)
    assert accepts(grammar, vocabulary.encode_text('{"a": 1}'))
    assert not accepts(grammar, vocabulary.encode_text('{"a": "1"}'))


@pytest.mark.parametrize("seed", range(10))
def test_any_object(compiler: GrammarCompiler, vocabulary: Vocabulary, seed: int) -> None:
    """Without a schema the answer is some JSON object."""
    source = grammar_source(ResponseFormat(json_object=JsonObjectFormat()))
    assert source is not None
    text = sample(compiler.compile(source.text), vocabulary.token_bytes, seed)
    assert isinstance(json.loads(text), dict)


def test_a_regular_expression(compiler: GrammarCompiler, vocabulary: Vocabulary) -> None:
    """The whole answer matches the expression."""
    source = grammar_source(ResponseFormat(regex=r"(yes|no)/\d{2}\n?"))
    assert source is not None
    grammar = compiler.compile(source.text)
    assert accepts(grammar, vocabulary.encode_text("yes/42"))
    assert not accepts(grammar, vocabulary.encode_text("yes/42!"))


@pytest.mark.parametrize("seed", range(4))
def test_a_regular_expression_leads_nowhere_without_tokens(
    compiler: GrammarCompiler, vocabulary: Vocabulary, seed: int
) -> None:
    """No answer begins that would need a character for which there is no token."""
    alphabet = Alphabet.of_bytes(compiler.single_bytes)
    source = grammar_source(ResponseFormat(regex=r"a[0-9/]{3}(\x04|\x14)|b[\x01-\x07]"), alphabet)
    assert source is not None
    text = sample(compiler.compile(source.text), vocabulary.token_bytes, seed)
    assert text.startswith("b")


@pytest.mark.parametrize(
    ("wanted", "field"),
    [
        (ResponseFormat(json_schema="{"), "response_format.json_schema"),
        (ResponseFormat(json_schema="[]"), "response_format.json_schema"),
        (ResponseFormat(json_schema='"{"'), "response_format.json_schema"),
        (ResponseFormat(json_schema='{"type": 1}'), "response_format.json_schema.type"),
        (wrapped(), "response_format.json_schema.schema"),
        (wrapped(schema=None), "response_format.json_schema.schema"),
        (wrapped(schema=7), "response_format.json_schema.schema"),
        (
            wrapped(schema={"uniqueItems": True}, strict=True),
            "response_format.json_schema.schema.uniqueItems",
        ),
        (wrapped(schema={}, extra=1), "response_format.json_schema.extra"),
        (wrapped(schema={}, strict="yes"), "response_format.json_schema.strict"),
        (
            ResponseFormat(json_object=JsonObjectFormat(schema='{"type": 1}')),
            "response_format.schema.type",
        ),
        *(
            (ResponseFormat(json_object=JsonObjectFormat(schema=text)), "response_format.schema")
            for text in ("[]", "0", '""', "false", "null")
        ),
        (
            ResponseFormat(json_schema=r'{"type": "object", "\ud800": 1}'),
            "response_format.json_schema",
        ),
        (ResponseFormat(grammar="root = 1"), "response_format.grammar"),
        (ResponseFormat(grammar=""), "response_format.grammar"),
        (ResponseFormat(regex=""), "response_format.regex"),
        (ResponseFormat(regex="a" * 300_000), "response_format.regex"),
        (ResponseFormat(json_schema='{"const": "\\ud800"}'), "response_format.json_schema"),
    ],
)
def test_the_field_at_fault_is_named(wanted: ResponseFormat, field: str) -> None:
    """A form that is wrong is refused with the path of what is."""
    with pytest.raises(InvalidRequestError) as caught:
        grammar_source(wanted)
    assert [v.field for v in caught.value.violations] == [field]


@pytest.mark.parametrize("strict", [False, None])
def test_what_is_not_enforced_is_listed(strict: bool | None) -> None:
    """Unless the schema is strict, what cannot be enforced is left out, and its path is given."""
    source = grammar_source(wrapped(schema={"items": {"uniqueItems": True}}, strict=strict))
    assert source is not None
    assert source.unenforced == ("response_format.json_schema.schema.items.uniqueItems",)
