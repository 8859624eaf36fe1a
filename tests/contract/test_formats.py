"""Constrained output on the wire; what the grammars do is proven in tests/service/formats."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.contract.callers import Caller, Json, Rest, chat, content
from tests.contract.examples import CITY

WRAPPED = {"name": "city", "schema": CITY, "strict": True, "description": "A city."}
NAMELESS = {"schema": CITY}


def formed(caller: Caller, response_format: Json, **fields: Any) -> Json:
    """The choice of an answer in a form, at a temperature at which a free answer has none."""
    rest = {"max_tokens": 40, "temperature": 1.5, "seed": 1} | fields
    (choice,) = caller.whole(chat(response_format=response_format, **rest))["choices"]
    return dict(choice)


@pytest.mark.parametrize(
    "response_format",
    [
        {"type": "json_object", "schema": CITY},
        {"type": "json_object", "schema": json.dumps(CITY)},
        {"type": "json_schema", "json_schema": CITY},
        {"type": "json_schema", "json_schema": WRAPPED},
        {"type": "json_schema", "json_schema": NAMELESS},
        {"type": "json_schema", "json_schema": json.dumps(CITY)},
        {"type": "json_schema", "json_schema": {"name": "city", "schema": json.dumps(CITY)}},
    ],
    ids=["seed", "seed text", "bare", "wrapped", "nameless", "text", "wrapped text"],
)
def test_schema(caller: Caller, response_format: Json) -> None:
    """A schema holds in each of its spellings; the answer is plain text in content."""
    choice = formed(caller, response_format)
    assert choice["finish_reason"] == "stop"
    assert json.loads(choice["message"]["content"])["city"] in {"Paris", "Rome"}


def test_json_object(caller: Caller) -> None:
    """Without a schema the answer is a JSON object, as far as max_tokens lets it come."""
    choice = formed(caller, {"type": "json_object"}, temperature=0, max_tokens=60)
    text = choice["message"]["content"]
    assert text.startswith("{")
    if choice["finish_reason"] == "stop":
        assert isinstance(json.loads(text), dict)


def test_length_may_cut(caller: Caller) -> None:
    """max_tokens may cut JSON short, and the reason says so."""
    choice = formed(caller, {"type": "json_object", "schema": CITY}, max_tokens=2)
    assert choice["finish_reason"] == "length"


@pytest.mark.parametrize(
    ("response_format", "texts"),
    [
        ({"type": "grammar", "grammar": 'root ::= "yes" | "no"'}, {"yes", "no"}),
        ({"type": "regex", "regex": "a{3}|b"}, {"aaa", "b"}),
    ],
)
def test_grammar_and_regex(caller: Caller, response_format: Json, texts: set[str]) -> None:
    """A grammar and a regular expression hold for the whole text."""
    assert formed(caller, response_format)["message"]["content"] in texts


def test_text_is_free(caller: Caller) -> None:
    """The format text is none at all."""
    free = content(caller.whole(chat()))
    assert content(caller.whole(chat(response_format={"type": "text"}))) == free


def test_only_decoding_is_constrained(caller: Caller) -> None:
    """The model does not see the schema: the prompt is the same without it."""
    body = chat(return_token_ids=True, max_tokens=1)
    free, held = caller.whole(body), caller.whole(body | {"response_format": FORMAT})
    assert held["prompt_token_ids"] == free["prompt_token_ids"]


FORMAT = {"type": "json_object", "schema": CITY}


def test_grammar_is_told(caller: Caller) -> None:
    """Raw output has the grammar that the answer was held to."""
    choice = formed(caller, FORMAT, raw_output=True)
    assert choice["raw_output"]["grammar"]


@pytest.mark.parametrize(
    ("response_format", "param", "expected"),
    [
        (
            {"type": "json_schema", "json_schema": {"schema": {"not": CITY}, "strict": True}},
            "response_format.json_schema.schema.not",
            "JSON Schema not supported: ",
        ),
        (
            {"type": "json_object", "schema": {"$ref": "https://x/y.json"}},
            "response_format.schema.$ref",
            "Error resolving schema reference",
        ),
        ({"type": "grammar", "grammar": "root ::= other"}, "response_format.grammar", ""),
        ({"type": "grammar", "grammar": ""}, "response_format.grammar", ""),
        ({"type": "regex", "regex": "("}, "response_format.regex", ""),
        ({"type": "json_object", "schema": "{"}, "response_format.schema", ""),
        (
            {"type": "json_object", "schema": {"type": 5}},
            "response_format.schema.type",
            "Error validating JSON Schema: ",
        ),
    ],
)
def test_refused(caller: Caller, response_format: Json, param: str, expected: str) -> None:
    """What cannot be enforced is refused, with the path of the keyword at fault."""
    refusal = caller.refusal(chat(response_format=response_format))
    assert refusal.param == param
    assert expected in refusal.message


@pytest.mark.parametrize(
    "response_format", [{}, {"type": "xml"}, {"type": "json_schema"}, {"type": "grammar"}], ids=str
)
def test_incomplete(rest: Rest, response_format: Json) -> None:
    """A form has a type that is known, and what belongs to the type."""
    refusal = rest.refusal(chat(response_format=response_format))
    assert str(refusal.param).startswith("response_format.")
