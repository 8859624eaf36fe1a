"""The text format of tool calls: how models write calls, and how tools and results are shown.

It is the format that Hermes and Qwen models are trained on: a call is a JSON object between
tags. For a model whose chat template does not render tools, the system prompt describes them
in this format. Source of the wording: the chat template of Qwen2.5.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

OPEN_TAG, CLOSE_TAG = "<tool_call>", "</tool_call>"
SEPARATOR = "\n"
"""Stands between text and a call, and between two calls."""
CALL_TAIL = f"}}\n{CLOSE_TAG}"
"""The end of a call: what follows its arguments."""
BLANKS = " \t\r\n"
BLANK = f"[{BLANKS}]"
MAX_BLANKS = 8
"""The number of blanks that may stand between two symbols of a call's markup."""
GAP = f"{BLANK}{{0,{MAX_BLANKS}}}"
FENCE = "```"

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


def call_head(name: str) -> str:
    """The part of a call between its opening tag and its arguments."""
    return f'\n{{"name": {_json(name)}, "arguments": '


def bare_head(names: str) -> str:
    """The pattern of a call without tags up to its arguments, with a pattern of names.

    It may stand in a block of code, and another block may end before it.
    """
    blocks = f"({BLANK}*{FENCE}[A-Za-z]*){{0,2}}"
    symbols = (r"\{", '"name"', ":", f'"({names})"', ",", '"(arguments|parameters)"', ":")
    return blocks + "".join(f"{BLANK}*{symbol}" for symbol in symbols)


def call(name: str, arguments: str) -> str:
    """A complete call. `arguments` is JSON text."""
    return OPEN_TAG + call_head(name) + arguments + CALL_TAIL


def result(text: str) -> str:
    """The result of a tool."""
    return f"<tool_response>\n{text}\n</tool_response>"


def instructions(tools: Iterable[Mapping[str, Any]]) -> str:
    """The part of a system prompt that lists the tools and explains how to call them."""
    return INSTRUCTIONS.format(tools="\n".join(map(_json, tools)))


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
