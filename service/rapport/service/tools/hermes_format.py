"""Tools and their results as text, for models whose chat template does not show tools.

The system prompt describes the tools, and how to call them in the format of Hermes and Qwen. Source
of the wording: the chat template of Qwen2.5.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

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


def result(text: str) -> str:
    """The result of a tool."""
    return f"<tool_response>\n{text}\n</tool_response>"


def instructions(tools: Iterable[Mapping[str, Any]]) -> str:
    """The part of a system prompt that lists the tools and explains how to call them."""
    lines = (json.dumps(tool, ensure_ascii=False) for tool in tools)
    return INSTRUCTIONS.format(tools="\n".join(lines))
