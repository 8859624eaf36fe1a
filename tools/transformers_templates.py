"""Records what transformers makes of the chat templates of the tests.

It runs in an environment that has transformers:

    PYTHONPATH=. python tools/transformers_templates.py
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from transformers.utils.chat_template_utils import render_jinja_template

from tests.service.prompt.templates import FAMILIES, SPECIAL_TOKENS

PROMPTS = Path(__file__).parents[1] / "tests/service/prompt/transformers_prompts.json"
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Weather <now> 'é'",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
CALL = {
    "type": "function",
    "id": "abcdefghi",
    "function": {"name": "get_weather", "arguments": {"city": 'Paris "é"', "days": [2, None]}},
}
ASKED = {"role": "user", "content": "Hi <there>\n"}
CONVERSATIONS: dict[str, list[dict[str, Any]]] = {
    "one turn": [ASKED],
    "several turns": [
        {"role": "system", "content": "Be brief."},
        ASKED,
        {"role": "assistant", "content": " Yes? "},
        {"role": "user", "content": "Bye"},
    ],
    "a call and its result": [
        ASKED,
        {"role": "assistant", "content": "", "tool_calls": [CALL]},
        {"role": "tool", "content": "18", "tool_call_id": "abcdefghi"},
    ],
}


def main() -> int:
    """Writes the conversations and their prompts; None where a template refuses one."""
    prompts = {
        family: {
            f"{name}{' with tools' if tools else ''}{' in parts' if parts else ''}": rendered(
                source, in_parts(messages) if parts else messages, tools
            )
            for name, messages in CONVERSATIONS.items()
            for tools in ([], [TOOL])
            for parts in (False, True)
        }
        for family, source in FAMILIES.items()
    }
    recorded = {"tool": TOOL, "conversations": CONVERSATIONS, "prompts": prompts}
    PROMPTS.write_text(json.dumps(recorded, indent=1, ensure_ascii=False) + "\n")
    return 0


def in_parts(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [each | {"content": [{"type": "text", "text": each["content"]}]} for each in messages]


def rendered(
    source: str, messages: list[dict[str, Any]], tools: list[dict[str, Any]]
) -> str | None:
    try:
        (prompt,), _ = render_jinja_template(
            [messages],
            tools=tools or None,
            chat_template=source,
            add_generation_prompt=True,
            **SPECIAL_TOKENS,
        )
    except Exception:  # noqa: BLE001 - a template raises any error
        return None
    return str(prompt)


if __name__ == "__main__":
    sys.exit(main())
