from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from rapport.service.tools.hermes_format import CLOSE_TAG, OPEN_TAG, call, instructions

DEFINITION = {"type": "function", "function": {"name": "f", "description": "{é}", "parameters": {}}}


def test_call() -> None:
    """A call is a JSON object between tags."""
    assert call("f", '{"x": 1}') == (
        '<tool_call>\n{"name": "f", "arguments": {"x": 1}}\n</tool_call>'
    )


@given(st.text())
def test_names(name: str) -> None:
    """Whatever the name is, the object is JSON."""
    text = call(name, "{}").removeprefix(OPEN_TAG).removesuffix(CLOSE_TAG)
    assert json.loads(text) == {"name": name, "arguments": {}}


def test_instructions() -> None:
    """Instructions have a line of JSON for each tool, and show how a call is written."""
    text = instructions([DEFINITION, DEFINITION])
    line = '{"type": "function", "function": {"name": "f", "description": "{é}", "parameters": {}}}'
    assert f"<tools>\n{line}\n{line}\n</tools>" in text
    assert text.endswith(
        '<tool_call>\n{"name": <function-name>, "arguments": <args-json-object>}\n</tool_call>'
    )
