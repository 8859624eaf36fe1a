from __future__ import annotations

from rapport.service.tools.hermes_format import instructions

DEFINITION = {"type": "function", "function": {"name": "f", "description": "{é}", "parameters": {}}}


def test_instructions() -> None:
    """Instructions have a line of JSON for each tool, and show how a call is written."""
    text = instructions([DEFINITION, DEFINITION])
    line = '{"type": "function", "function": {"name": "f", "description": "{é}", "parameters": {}}}'
    assert f"<tools>\n{line}\n{line}\n</tools>" in text
    assert text.endswith(
        '<tool_call>\n{"name": <function-name>, "arguments": <args-json-object>}\n</tool_call>'
    )
