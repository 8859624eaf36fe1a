from __future__ import annotations

from typing import Any

import pytest

from rapport.v1.chat_pb2 import (
    CreateChatCompletionRequest,
)
from rapport.v1.format_pb2 import JsonObjectFormat, ResponseFormat, TextFormat
from rapport.v1.tool_pb2 import FunctionDefinition, Tool
from service.errors import NotSupported
from service.pending import PENDING, refuse_pending

USED: dict[str, list[Any]] = {
    "tools": [[Tool(function=FunctionDefinition(name="f"))]],
    "functions": [[FunctionDefinition(name="f")]],
    "response_format": [
        ResponseFormat(json_object=JsonObjectFormat()),
        ResponseFormat(json_schema="{}"),
        ResponseFormat(grammar="root ::= 'a'"),
    ],
}
NEUTRAL: list[tuple[str, Any]] = [
    ("response_format", ResponseFormat(text=TextFormat())),
    ("parallel_tool_calls", True),
    ("prompt_cache_key", "k"),
    ("safety_identifier", "s"),
]


def test_every_pending_field_is_tried() -> None:
    """No row of the table is without a test."""
    assert USED.keys() == PENDING.keys()


@pytest.mark.parametrize(
    ("field", "value"), [(field, value) for field, values in USED.items() for value in values]
)
def test_used(field: str, value: Any) -> None:
    """A field that is not built yet is refused by its name where it is used."""
    with pytest.raises(NotSupported, match=f"^Not supported yet, field: '{field}'$"):
        refuse_pending(CreateChatCompletionRequest(**{field: value}))


@pytest.mark.parametrize(("field", "value"), NEUTRAL)
def test_neutral(field: str, value: Any) -> None:
    """A value that asks for nothing is accepted."""
    refuse_pending(CreateChatCompletionRequest(**{field: value}))


def test_several() -> None:
    """All fields that are used are named."""
    with pytest.raises(NotSupported, match=r"2 request validation errors: .*'tools'.*'functions'"):
        refuse_pending(
            CreateChatCompletionRequest(
                tools=[Tool(function=FunctionDefinition(name="f"))],
                functions=[FunctionDefinition(name="f")],
            )
        )
