"""The form in which models write calls, and are shown tools and results.

It is the one that Hermes and Qwen models are trained with: a call is a JSON object
between tags. Models whose template has no word for tools are asked for it in the system
prompt. Source of the wording: the chat template of Qwen2.5.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

OPEN, CLOSE = "<tool_call>", "</tool_call>"
BETWEEN = "\n"
"""What stands between text and a call, and between calls."""

INSTRUCTIONS = """# Tools

You may call one or more functions to assist with the user query.

You are provided with function signatures within <tools></tools> XML tags:
<tools>
{tools}
</tools>

For each function call, return a json object with function name and arguments \
within <tool_call></tool_call> XML tags:
<tool_call>
{{"name": <function-name>, "arguments": <args-json-object>}}
</tool_call>"""


def head(name: str) -> str:
    """A call, after its opening tag, up to its arguments."""
    return f'\n{{"name": {json_string(name)}, "arguments": '


TAIL = f"}}\n{CLOSE}"
"""A call after its arguments."""


def call(name: str, arguments: str) -> str:
    """A whole call. `arguments` is JSON."""
    return OPEN + head(name) + arguments + TAIL


def result(text: str) -> str:
    """What a tool answered."""
    return f"<tool_response>\n{text}\n</tool_response>"


def instructions(tools: Iterable[Mapping[str, Any]]) -> str:
    """What tells a model of its tools and how to call them."""
    lines = (json.dumps(tool, ensure_ascii=False) for tool in tools)
    return INSTRUCTIONS.format(tools="\n".join(lines))


def json_string(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
