"""How models write tool calls: a table of formats, one of which a chat template shows."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

BLANKS = " \t\r\n"
BLANK = f"[{BLANKS}]"
MAX_BLANKS = 8
"""The number of blanks that may stand between two symbols of a call's markup."""
GAP = f"{BLANK}{{0,{MAX_BLANKS}}}"
SYMBOL = re.compile(r'"[^"]*"|[{}\[\],:]|[^\s{}\[\],:"]+')
NAME = "%s"  # stands for the name of the function
NAME_AND_ARGUMENTS = '{"name": "%s", "arguments": '


@dataclass(frozen=True, slots=True)
class CallFormat:
    """The text of calls: a marker, what opens a list of them, the calls, and what closes the list.

    A call is a head with its name, the arguments as a JSON object, and a tail.
    """

    marker: str
    """Leads up to calls. Where the model may call, no other text has it."""
    head: str = NAME_AND_ARGUMENTS
    tail: str = "}"
    separator: str | None = ", "
    """Stands between two calls; None if there is only one."""
    opening: str = "["
    closing: str = "]"
    is_marked: bool = True
    """Whether calls need the marker. Without it they begin the answer."""

    @property
    def is_list(self) -> bool:
        """Whether one marker stands before all calls."""
        return bool(self.opening)

    def call_head(self, name: str) -> str:
        """What stands before the arguments of a call of this function."""
        return self.head.replace(NAME, json.dumps(name, ensure_ascii=False)[1:-1])

    def write(self, calls: Iterable[tuple[str, str]]) -> str:
        """Calls of functions by their names, with arguments as JSON text."""
        separator = self.separator or "\n"
        texts = (self.call_head(name) + arguments + self.tail for name, arguments in calls)
        marker = self.marker if self.is_marked else ""
        return marker + self.opening + separator.join(texts) + self.closing

    def head_pattern(self, names: str, *, leading: str) -> str:
        """The pattern of a call up to its arguments, from `leading` on, with a pattern of names."""
        symbols = (*map(re.escape, symbols_of(leading + self.head)), r"\{")
        return GAP.join(symbols).replace(NAME, names)

    def max_head_chars(self, names: Sequence[str]) -> int:
        """The greatest length of a head with one of the names, and of what leads up to it."""
        symbols = symbols_of((self.separator or "") + self.opening + self.head)
        written = sum(len(symbol.replace(NAME, "")) for symbol in symbols)
        return written + max(map(len, names)) + MAX_BLANKS * (len(symbols) + 1) + 1


def symbols_of(markup: str) -> list[str]:
    """The symbols of a format's text, between which blanks may stand."""
    return SYMBOL.findall(markup)


HERMES = CallFormat(
    marker="<tool_call>",
    head=f"\n{NAME_AND_ARGUMENTS}",
    tail="}\n</tool_call>",
    separator="\n<tool_call>",
    opening="",
    closing="",
)
"""That of Hermes and Qwen, SmolLM3 and Granite 4; for models whose template shows none, as well."""
LLAMA = CallFormat(
    marker="<|python_tag|>",
    head='{"name": "%s", "parameters": ',
    separator=None,
    opening="",
    closing="",
    is_marked=False,
)
"""That of Llama 3.1 to 3.3."""
GRANITE = CallFormat(marker="<|tool_call|>")
"""That of Granite 3."""
MISTRAL = CallFormat(marker="[TOOL_CALLS]")
"""That of Mistral 7B v0.3 and Nemo."""
FORMATS = (
    HERMES,
    MISTRAL,
    # Mistral Small 3.2, Devstral, Ministral
    CallFormat(
        marker="[TOOL_CALLS]",
        head="%s[ARGS]",
        tail="",
        separator="[TOOL_CALLS]",
        opening="",
        closing="",
    ),
    CallFormat(marker="<TOOLCALL>", closing="]</TOOLCALL>"),  # Nemotron
    CallFormat(marker="<tool_calls>", closing="]</tool_calls>"),  # Apriel
    GRANITE,
    # Functionary 3.1
    CallFormat(
        marker="<function=",
        head="%s>",
        tail="</function>",
        separator="<function=",
        opening="",
        closing="",
    ),
    LLAMA,
)
