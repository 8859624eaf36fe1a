"""Renders a conversation with the model's chat template."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Never

from jinja2 import TemplateError, meta

from rapport.common.model_spec import ModelSpec
from rapport.service.errors import FieldViolation, InvalidRequestError
from rapport.service.prompt import render_budget
from rapport.service.prompt.sandbox import Sandbox
from rapport.service.prompt.template_calls import (
    NO_CALLS,
    PROBE,
    TOOL,
    CallForm,
    TemplateCalls,
    find_calls,
)
from rapport.service.prompt.turns import Call, Conversation, JsonObject, Turn
from rapport.service.tools.call_format import CallFormat

MAX_REASON_CHARS = 1000
MAX_DATE_PATTERN_CHARS = 100


class ChatTemplate:
    """A Jinja template in the form of Hugging Face's models. It is not trusted."""

    def __init__(
        self,
        source: str,
        special_tokens: Mapping[str, str] | None = None,
        *,
        begins_with_bos: bool = False,
    ) -> None:
        """Reads a template.

        Args:
            source: The template.
            special_tokens: Those that it can write, by their names, such as `bos_token`.
            begins_with_bos: Whether a prompt begins with `bos_token`, which the template may leave
                out.

        Raises:
            ValueError: it is too long, or not a valid template.
        """
        sandbox = Sandbox()
        sandbox.globals["raise_exception"] = _raise_exception
        sandbox.globals["strftime_now"] = _strftime_now
        self._template = sandbox.read(source)
        self._special_tokens = dict(special_tokens or {})
        self._opening = self._special_tokens["bos_token"] if begins_with_bos else ""
        self._variables = meta.find_undeclared_variables(sandbox.parse(source))

    @classmethod
    def read(cls, folder: Path, *, with_tools: bool = False) -> ChatTemplate:
        """Reads the template of a model folder, and what its special tokens are.

        With `with_tools` it is that for requests with tools, which most models do not have.
        """
        spec = ModelSpec.read(folder)
        source = spec.tool_template if with_tools else None
        if source is None:
            source = (folder / "chat_template.jinja").read_text(encoding="utf-8")
        return cls(source, spec.special_tokens, begins_with_bos=spec.begins_with_bos)

    def render(self, conversation: Conversation) -> str:
        """The conversation up to where the model's answer begins.

        An empty system turn at the start means no system prompt, not even the template's
        default. It keeps the template from writing the default, and what the template renders
        for the empty turn is removed.

        Raises:
            InvalidRequestError: the template refuses the conversation.
        """
        turns, tools = conversation.turns, conversation.tools
        text = self._render(self._messages(turns), tools)
        if not tools and turns[0] == Turn("system", ""):
            text = text.removeprefix(self._render(self._messages(turns[:1]), (), answer=False))
        return self.opened(text)

    def opened(self, text: str) -> str:
        """A prompt with the token that prompts begin with, where it lacks it."""
        return text if text.startswith(self._opening) else self._opening + text

    @property
    def takes_tools(self) -> bool:
        """Whether the template shows tools, and how they are called is known."""
        return self._calls.takes_tools

    @property
    def writes_calls(self) -> bool:
        """Whether the template writes calls itself; else texts have them."""
        return self._calls.writes_calls

    @property
    def call_format(self) -> CallFormat:
        """How calls are written."""
        return self._calls.format

    @cached_property
    def _calls(self) -> TemplateCalls:
        if "tools" not in self._variables:
            return NO_CALLS

        def render(turns: Sequence[Turn], form: CallForm) -> str:
            return self._try(
                [_message(turn, form, parts=self._takes_parts) for turn in turns], TOOL
            )

        return find_calls(render)

    @cached_property
    def _takes_parts(self) -> bool:
        """Whether the template shows contents only as lists of parts."""
        turn = Turn("user", PROBE)
        as_text, as_parts = (self._try([_message(turn, parts=parts)]) for parts in (False, True))
        return PROBE not in as_text and PROBE in as_parts

    @cached_property
    def system_prompt(self) -> str:
        """The default system prompt of the template, which it writes if a conversation has none.

        Raises:
            InvalidRequestError: the template does not accept system turns.
        """
        question = Turn("user", PROBE)
        given = self._render(self._messages([Turn("system", PROBE), question]))
        before, _, after = given.partition(PROBE)
        default = self._render(self._messages([question]))
        if default.startswith(before) and default.removeprefix(before).endswith(after):
            return default.removeprefix(before).removesuffix(after)
        return ""

    def _messages(self, turns: Sequence[Turn]) -> list[JsonObject]:
        form = self._calls.form
        return [_message(turn, form, parts=self._takes_parts) for turn in turns]

    def _try(self, messages: Sequence[JsonObject], *tools: JsonObject) -> str:
        """What the template renders; nothing if it refuses."""
        try:
            return self._render(messages, tools)
        except InvalidRequestError:
            return ""

    def _render(
        self,
        messages: Sequence[JsonObject],
        tools: Sequence[JsonObject] = (),
        *,
        answer: bool = True,
    ) -> str:
        # Without tools, Hugging Face's renderer passes None, which templates test for.
        tools_or_none = list(tools) or None
        try:
            render_budget.begin([messages, tools_or_none])
            text = self._template.render(
                messages=messages,
                tools=tools_or_none,
                documents=None,
                add_generation_prompt=answer,
                **self._special_tokens,
            )
            text.encode()
        # A template may raise any error: on purpose, by a mistake, or by exceeding the budget.
        except Exception as error:
            reason = str(error) or type(error).__name__
            text = (
                f"The model's chat template refuses the conversation: {reason[:MAX_REASON_CHARS]}"
            )
            raise InvalidRequestError([FieldViolation("messages", text)]) from error
        return text


def _message(turn: Turn, form: CallForm = NO_CALLS.form, *, parts: bool) -> JsonObject:
    """A turn as templates take it."""
    content = [{"type": "text", "text": turn.content}] if parts else turn.content
    message: JsonObject = {"role": turn.role, "content": content}
    if turn.calls:
        message["tool_calls"] = [_call(call, form) for call in turn.calls]
    if turn.call_id:
        message["tool_call_id"] = form.id(turn.call_id)
    return message


def _call(call: Call, form: CallForm) -> JsonObject:
    function = {"name": call.name, "arguments": form.arguments(call.arguments)}
    id_ = {"id": form.id(call.id)} if call.id else {}
    return {"type": "function", **id_, "function": function}


def _raise_exception(message: str) -> Never:
    raise TemplateError(message)


def _strftime_now(pattern: str) -> str:
    if len(pattern) > MAX_DATE_PATTERN_CHARS:
        raise TemplateError("The pattern of a date is too long")
    return datetime.now().astimezone().strftime(pattern)
