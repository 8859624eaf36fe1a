from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from rapport.service.tools import hermes_format as form

SHOWN = {"type": "function", "function": {"name": "f", "description": "{é}", "parameters": {}}}


def test_call() -> None:
    """A call is a JSON object between tags."""
    assert form.call("f", '{"x": 1}') == (
        '<tool_call>\n{"name": "f", "arguments": {"x": 1}}\n</tool_call>'
    )


@given(st.text())
def test_names(name: str) -> None:
    """Whatever the name is, the object is JSON."""
    text = form.call(name, "{}").removeprefix(form.OPEN).removesuffix(form.CLOSE)
    assert json.loads(text) == {"name": name, "arguments": {}}


def test_instructions() -> None:
    """Instructions have a line of JSON for each tool, and show how a call is written."""
    text = form.instructions([SHOWN, SHOWN])
    line = '{"type": "function", "function": {"name": "f", "description": "{é}", "parameters": {}}}'
    assert f"<tools>\n{line}\n{line}\n</tools>" in text
    assert text.endswith(
        '<tool_call>\n{"name": <function-name>, "arguments": <args-json-object>}\n</tool_call>'
    )
