from __future__ import annotations

import pytest

from rapport.service.prompt.tool_prompt import with_instructions, with_results
from rapport.service.prompt.turns import Turn

HI = Turn("user", "Hi")


def default() -> str:
    return "Default."


def test_instructions_follow_the_system_prompt() -> None:
    """Instructions follow the system prompt of the request."""
    instructed = with_instructions([Turn("system", "Be brief."), HI], "Tools.", default)
    assert instructed == [Turn("system", "Be brief.\n\nTools."), HI]


@pytest.mark.parametrize("turns", [[HI], [HI, Turn("system", "Later.")]])
def test_instructions_follow_the_default(turns: list[Turn]) -> None:
    """Without a system prompt at the start, they follow the default of the template."""
    assert with_instructions(turns, "T.", default) == [Turn("system", "Default.\n\nT."), *turns]


def test_instructions_alone() -> None:
    """With an empty system prompt there are only the instructions."""
    assert with_instructions([Turn("system", ""), HI], "T.", default)[0] == Turn("system", "T.")
    assert with_instructions([HI], "T.", str)[0] == Turn("system", "T.")


def test_results() -> None:
    """Results in a row become one user turn, each between tags."""
    turns = [HI, Turn("assistant", "…"), Turn("tool", "1"), Turn("tool", "2"), HI, Turn("tool", "")]
    assert list(with_results(turns)) == [
        HI,
        Turn("assistant", "…"),
        Turn(
            "user",
            "<tool_response>\n1\n</tool_response>\n<tool_response>\n2\n</tool_response>",
        ),
        HI,
        Turn("user", "<tool_response>\n\n</tool_response>"),
    ]
