"""The grammar that an answer has to keep to."""

from __future__ import annotations

from functools import partial

from rapport.service.engine.sampling.constraint import Grammar
from rapport.service.errors import InvalidRequestError
from rapport.service.structured_output.compiler import FormatCompiler
from rapport.service.tools.grammar import tool_call_grammar
from rapport.service.tools.tool_choice import ToolPolicy
from rapport.v1.chat_pb2 import CreateChatCompletionRequest


async def grammar_for(
    request: CreateChatCompletionRequest, tools: ToolPolicy, formats: FormatCompiler
) -> Grammar | None:
    """The grammar of calls where there are tools, else that of the format; None for free text.

    Raises:
        InvalidRequestError: what has to be kept to cannot be.
    """
    if not tools.functions:
        return await formats.compile_format(request.response_format)
    exact, loose = f"{tools}".encode(), f"loose {tools}".encode()
    # The loose one is compiled only where the exact one cannot be.
    if known := formats.recall(loose):
        return known
    try:
        return await formats.compile(partial(tool_call_grammar, tools), "tools", exact)
    except InvalidRequestError:
        if tools.exact:
            raise
    return await formats.compile(partial(tool_call_grammar, tools, loose=True), "tools", loose)
