"""The model's chat template: a conversation to the text that the model continues."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Never

from jinja2 import TemplateError, meta

from rapport.service.errors import FieldViolation, InvalidRequestError
from rapport.service.prompt import render_budget
from rapport.service.prompt.sandbox import Sandbox
from rapport.service.prompt.turns import Conversation, JsonObject, Turn

# Something to recognise in what a template makes of it.
PROBE = "probe"
LONGEST_REASON = 1000
LONGEST_PATTERN = 100
WRITTEN_PROBE = re.compile(rf'<tool_call>\s*\{{"name":\s*"{PROBE}",\s*"arguments":\s*\{{')


class ChatTemplate:
    """A Jinja template as Hugging Face models carry it. It comes with the model: not trusted."""

    def __init__(self, source: str) -> None:
        """Reads a template.

        Raises:
            ValueError: it is too long, or no template.
        """
        sandbox = Sandbox()
        sandbox.globals["raise_exception"] = _raise_exception
        sandbox.globals["strftime_now"] = _strftime_now
        self._template = sandbox.read(source)
        self._variables = meta.find_undeclared_variables(sandbox.parse(source))

    @classmethod
    def read(cls, folder: Path) -> ChatTemplate:
        """Reads `chat_template.jinja` of a model folder."""
        return cls((folder / "chat_template.jinja").read_text(encoding="utf-8"))

    def render(self, conversation: Conversation) -> str:
        """The conversation up to where the model's answer begins.

        An empty system turn at the start means no system prompt, not even the
        template's own. It keeps the template from writing that one, and what the
        template makes of the empty turn is then taken off.

        Raises:
            InvalidRequestError: the template refuses the conversation.
        """
        turns, tools = conversation.turns, conversation.tools
        text = self._render(_messages(turns), tools)
        if tools or turns[0] != Turn("system", ""):
            return text
        return text.removeprefix(self._render(_messages(turns[:1]), (), answer=False))

    @cached_property
    def takes_tools(self) -> bool:
        """Whether the template itself tells the model of tools, and to call them in our form."""
        if "tools" not in self._variables:
            return False
        function = {"name": PROBE, "arguments": {}}
        call = {"type": "function", "function": function}
        asked = {"role": "user", "content": PROBE}
        called = {"role": "assistant", "content": "", "tool_calls": [call]}
        tool = {"type": "function", "function": {"name": PROBE, "parameters": {}}}
        try:
            return WRITTEN_PROBE.search(self._render([asked, called], [tool])) is not None
        except InvalidRequestError:
            return False

    @cached_property
    def system_prompt(self) -> str:
        """What the template says as the system where nobody else does.

        Raises:
            InvalidRequestError: the template takes no system turns.
        """
        asked = Turn("user", PROBE)
        said = self._render(_messages([Turn("system", PROBE), asked]))
        before, _, after = said.partition(PROBE)
        unsaid = self._render(_messages([asked]))
        if unsaid.startswith(before) and unsaid.removeprefix(before).endswith(after):
            return unsaid.removeprefix(before).removesuffix(after)
        return ""

    def _render(
        self,
        messages: Sequence[JsonObject],
        tools: Sequence[JsonObject] = (),
        *,
        answer: bool = True,
    ) -> str:
        # Without any, Hugging Face's renderer gives None, which templates ask for.
        given = list(tools) or None
        try:
            render_budget.begin([messages, given])
            text = self._template.render(
                messages=messages, tools=given, add_generation_prompt=answer
            )
            text.encode()
        # It may raise anything: on purpose, for a mistake of its own, or for too much to do.
        except Exception as error:
            reason = str(error) or type(error).__name__
            text = f"The model's chat template refuses the conversation: {reason[:LONGEST_REASON]}"
            raise InvalidRequestError([FieldViolation("messages", text)]) from error
        return text


def _messages(turns: Sequence[Turn]) -> list[JsonObject]:
    return [{"role": turn.role, "content": turn.content} for turn in turns]


def _raise_exception(message: str) -> Never:
    raise TemplateError(message)


def _strftime_now(pattern: str) -> str:
    if len(pattern) > LONGEST_PATTERN:
        raise TemplateError("The pattern of a date is too long")
    return datetime.now().astimezone().strftime(pattern)
