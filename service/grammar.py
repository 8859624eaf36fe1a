"""The grammar that an answer has to keep to."""

from __future__ import annotations

from functools import partial

from rapport.v1.chat_pb2 import CreateChatCompletionRequest
from service.engine.constraint import Grammar
from service.errors import InvalidRequest
from service.formats.compiler import FormatCompiler
from service.tools.grammar import calls_source
from service.tools.use import ToolUse


async def grammar_for(
    request: CreateChatCompletionRequest, tools: ToolUse, formats: FormatCompiler
) -> Grammar | None:
    """The grammar of calls where there are tools, else that of the format; None for free text.

    Raises:
        InvalidRequest: what has to be kept to cannot be.
    """
    if not tools.functions:
        return await formats.compile_format(request.response_format)
    exact, loose = f"{tools}".encode(), f"loose {tools}".encode()
    # The loose one is compiled only where the exact one cannot be.
    if known := formats.recall(loose):
        return known
    try:
        return await formats.compile(partial(calls_source, tools), "tools", exact)
    except InvalidRequest:
        if tools.exact:
            raise
    return await formats.compile(partial(calls_source, tools, loose=True), "tools", loose)
