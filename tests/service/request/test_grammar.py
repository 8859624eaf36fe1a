from __future__ import annotations

from typing import Any

import pytest

from rapport.service.errors import InvalidRequestError
from rapport.service.request.grammar import grammar_for
from rapport.service.structured_output.strict_json import field_error
from rapport.service.tools.tool_choice import NO_PARAMETERS, NO_TOOLS, Function, ToolPolicy
from rapport.v1.chat_pb2 import CreateChatCompletionRequest
from rapport.v1.format_pb2 import JsonObjectFormat, ResponseFormat
from tests.service.fakes import Uncompiled

CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


class Limited(Uncompiled):
    """Refuses grammars that have properties."""

    tries = 0

    async def compile(self, source: Any, field: str, form: bytes) -> Any:
        self.tries += 1
        if "properties" in source().text:
            raise field_error(field, "Grammar not supported: too large")
        return await super().compile(source, field, form)


def use(**how: Any) -> ToolPolicy:
    return ToolPolicy((Function("f", CITY, "tools", strict=how.pop("strict", False)),), **how)


async def source(tools: ToolPolicy, formats: Any = None, **fields: Any) -> str | None:
    request = CreateChatCompletionRequest(**fields)
    grammar = await grammar_for(request, tools, formats or Uncompiled())  # type: ignore[arg-type]
    return None if grammar is None else grammar.source


async def test_free_text() -> None:
    """Without tools and format there is no grammar."""
    assert await source(NO_TOOLS) is None


async def test_format() -> None:
    """Without tools, the format says what the answer is."""
    wanted = ResponseFormat(json_object=JsonObjectFormat())
    assert await source(NO_TOOLS, response_format=wanted) == "json_object"


async def test_calls() -> None:
    """With tools, calls have their form, whether they are forced or not."""
    for tools in (use(), use(forced=True)):
        assert "city" in (await source(tools) or "")


async def test_too_large() -> None:
    """Schemas that are too much together are left out, unless they must be kept to."""
    assert "properties" not in (await source(use(), Limited()) or "properties")
    for tools in (use(forced=True), use(strict=True)):
        with pytest.raises(InvalidRequestError, match="too large"):
            await source(tools, Limited())


async def test_too_large_once() -> None:
    """What was found too large is not tried again while what stands for it is known."""
    formats = Limited()
    first = await source(use(), formats)
    assert formats.tries == 2
    assert await source(use(), formats) == first
    assert formats.tries == 2
    with pytest.raises(InvalidRequestError):
        await source(use(strict=True), formats)


async def test_no_parameters() -> None:
    """A function without parameters is called with an empty object."""
    tools = ToolPolicy((Function("f", NO_PARAMETERS, "tools"),))
    assert '"additionalProperties": false' in (await source(tools) or "")
