"""The model's chat template: turns to the text that the model continues."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Never

from jinja2 import TemplateError
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from service.errors import InvalidRequest, Violation
from service.prompt.turns import Turn


class ChatTemplate:
    """A Jinja template as Hugging Face models carry it. It comes with the model: not trusted."""

    def __init__(self, source: str) -> None:
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols]
        )
        environment.filters["tojson"] = _tojson
        environment.globals["raise_exception"] = _raise_exception
        environment.globals["strftime_now"] = _strftime_now
        self._template = environment.from_string(source)

    @classmethod
    def read(cls, folder: Path) -> ChatTemplate:
        """Reads `chat_template.jinja` of a model folder."""
        return cls((folder / "chat_template.jinja").read_text(encoding="utf-8"))

    def render(self, turns: Sequence[Turn]) -> str:
        """The conversation up to where the model's answer begins.

        An empty system turn at the start means no system prompt, not even the
        template's own. It keeps the template from writing that one, and what the
        template makes of the empty turn is then taken off.

        Raises:
            InvalidRequest: the template refuses the conversation.
        """
        text = self._render(turns, answer=True)
        if turns[0] != Turn("system", ""):
            return text
        return text.removeprefix(self._render(turns[:1], answer=False))

    def _render(self, turns: Sequence[Turn], *, answer: bool) -> str:
        messages = [{"role": turn.role, "content": turn.content} for turn in turns]
        try:
            return self._template.render(messages=messages, add_generation_prompt=answer)
        except TemplateError as error:
            text = f"The model's chat template refuses the conversation: {error}"
            raise InvalidRequest([Violation("messages", text)]) from error


def _tojson(value: Any, indent: int | None = None) -> str:
    # Jinja's own escapes for HTML, which is not what a model reads.
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _raise_exception(message: str) -> Never:
    raise TemplateError(message)


def _strftime_now(pattern: str) -> str:
    return datetime.now().astimezone().strftime(pattern)
