from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rapport.service.engine.text.vocabulary import CALL_MARKERS
from rapport.service.tools.call_format import FORMATS, GRANITE, HERMES, LLAMA, MISTRAL, CallFormat

CALLS = [("f", '{"x": 1}'), ("g", "{}")]


@pytest.mark.parametrize(
    ("form", "text"),
    [
        (
            HERMES,
            (
                '<tool_call>\n{"name": "f", "arguments": {"x": 1}}\n</tool_call>\n'
                '<tool_call>\n{"name": "g", "arguments": {}}\n</tool_call>'
            ),
        ),
        (
            MISTRAL,
            '[TOOL_CALLS][{"name": "f", "arguments": {"x": 1}}, {"name": "g", "arguments": {}}]',
        ),
        (FORMATS[2], '[TOOL_CALLS]f[ARGS]{"x": 1}[TOOL_CALLS]g[ARGS]{}'),
        (
            GRANITE,
            '<|tool_call|>[{"name": "f", "arguments": {"x": 1}}, {"name": "g", "arguments": {}}]',
        ),
        (LLAMA, '{"name": "f", "parameters": {"x": 1}}\n{"name": "g", "parameters": {}}'),
    ],
)
def test_calls_are_written_as_models_write_them(form: CallFormat, text: str) -> None:
    assert form.write(CALLS) == text


@given(st.text())
def test_names(name: str) -> None:
    """Whatever the name is, the object is JSON."""
    text = HERMES.write([(name, "{}")]).removeprefix("<tool_call>").removesuffix("</tool_call>")
    assert json.loads(text) == {"name": name, "arguments": {}}


def test_formats_differ() -> None:
    """No two formats lead up to a call in the same way."""
    assert len({form.marker + form.opening + form.head for form in FORMATS}) == len(FORMATS)


def test_special_markers_are_text() -> None:
    """The markers that tokenizers of these families have as special tokens reach the parser."""
    markers = {form.marker for form in (HERMES, GRANITE, MISTRAL, LLAMA)}
    assert markers | {"[ARGS]"} == set(CALL_MARKERS)
