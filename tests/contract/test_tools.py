"""Calls of tools on the wire; what they are made of is proven in tests/service/tools."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.contract.callers import Caller, Json, Rest, chat
from tests.contract.examples import CITY, TOOLS, WEATHER

ID = re.compile(r"call_[A-Za-z0-9]{24}")
NAMED = {"type": "function", "function": {"name": "get_time"}}
SHORT = {"type": "function", "name": "get_time"}


def chat_with_tools(**fields: Any) -> Json:
    return chat(WEATHER, **{"tools": TOOLS, "max_tokens": 40} | fields)


def only_choice(answer: Json) -> Json:
    (choice,) = answer["choices"]
    return dict(choice)


@pytest.mark.parametrize("tool_choice", [NAMED, SHORT], ids=["long", "short"])
def test_named(caller: Caller, tool_choice: Json) -> None:
    """A named function is called, once, with arguments of its schema, and that ends the answer."""
    choice = only_choice(
        caller.whole(chat_with_tools(tool_choice=tool_choice, logit_bias={"2": 5}))
    )
    assert choice["finish_reason"] == "tool_calls"
    assert list(choice["message"]) == ["role", "content", "refusal", "tool_calls"]
    assert choice["message"]["content"] is None
    (call,) = choice["message"]["tool_calls"]
    assert list(call) == ["index", "id", "type", "function"]
    assert (call["index"], call["type"]) == (0, "function")
    assert ID.fullmatch(call["id"])
    assert list(call["function"]) == ["name", "arguments"]
    assert call["function"]["name"] == "get_time"
    assert json.loads(call["function"]["arguments"])["city"] in {"Paris", "Rome"}


@pytest.mark.parametrize("mode", ["required", "any"])
def test_forced(caller: Caller, mode: str) -> None:
    """required and any are the same: one call unless several are asked for, and no text."""
    choice = only_choice(caller.whole(chat_with_tools(tool_choice=mode)))
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] is None
    assert len(choice["message"]["tool_calls"]) == 1


def test_one_call(caller: Caller) -> None:
    """With parallel_tool_calls false there is one call, and the answer ends of itself."""
    answer = caller.whole(chat_with_tools(tool_choice="required", parallel_tool_calls=False))
    assert len(only_choice(answer)["message"]["tool_calls"]) == 1
    assert answer["usage"]["completion_tokens"] < 40


def test_fragments(caller: Caller) -> None:
    """In a stream: id, type and name once, then arguments in fragments, then the bare reason."""
    pieces = caller.pieces(chat_with_tools(tool_choice=NAMED))
    choices = [piece["choices"][0] for piece in pieces]
    deltas = [choice["delta"] for choice in choices]
    assert deltas[0] == {"role": "assistant"}
    (header,) = deltas[1]["tool_calls"]
    assert list(header) == ["index", "id", "type", "function"]
    assert ID.fullmatch(header["id"])
    assert header["function"] == {"name": "get_time", "arguments": ""}
    fragments = [delta["tool_calls"][0] for delta in deltas[2:-1]]
    assert all(list(each) == ["index", "function"] for each in fragments)
    assert all(list(each["function"]) == ["arguments"] for each in fragments)
    assert json.loads("".join(each["function"]["arguments"] for each in fragments))
    assert deltas[-1] == {}
    assert [choice["finish_reason"] for choice in choices[-2:]] == [None, "tool_calls"]


def test_none(caller: Caller) -> None:
    """With none there are no calls, and the model does not see the tools."""
    silent = caller.whole(chat_with_tools(tool_choice="none", max_tokens=4))
    assert "tool_calls" not in only_choice(silent)["message"]
    alone = caller.whole(chat(WEATHER))
    assert silent["usage"]["prompt_tokens"] == alone["usage"]["prompt_tokens"]


def test_tools_are_told(caller: Caller) -> None:
    """Tools are never dropped in silence: the model is rendered of them, with their schemas."""
    answer = caller.whole(chat_with_tools(max_tokens=1, raw_output=True))
    rendered = "".join(only_choice(answer)["raw_output"]["prompt_fragments"])
    assert '"get_weather"' in rendered
    assert "The weather." in rendered
    assert '"Rome"' in rendered


def test_cut(caller: Caller) -> None:
    """Arguments that max_tokens cuts short come as far as they are, and the reason is length."""
    choice = only_choice(caller.whole(chat_with_tools(tool_choice=NAMED, max_tokens=16)))
    assert choice["finish_reason"] == "length"
    for call in choice["message"].get("tool_calls", []):
        with pytest.raises(json.JSONDecodeError):
            json.loads(call["function"]["arguments"])


def test_legacy(caller: Caller) -> None:
    """functions and function_call are tools and tool_choice by their old names."""
    functions = [tool["function"] for tool in TOOLS]
    old = chat(WEATHER, functions=functions, function_call={"name": "get_time"}, max_tokens=40)
    choices = [
        only_choice(caller.whole(each)) for each in (old, chat_with_tools(tool_choice=NAMED))
    ]
    for choice in choices:
        del choice["message"]["tool_calls"][0]["id"]
    assert choices[0] == choices[1]


def test_round_trip(rest: Rest) -> None:
    """A call goes back with its result, and the model goes on from there."""
    message = rest.whole(chat_with_tools(tool_choice=NAMED))["choices"][0]["message"]
    result = {
        "role": "tool",
        "tool_call_id": message["tool_calls"][0]["id"],
        "content": "It is noon.",
    }
    request = chat_with_tools(max_tokens=4)
    more = request | {"messages": [*request["messages"], message, result]}
    assert only_choice(rest.whole(more))["message"]["content"]


def test_format_beside_tools_that_may_not_be_called(caller: Caller) -> None:
    """With none the format of the answer is that of the request."""
    form = {"type": "grammar", "grammar": 'root ::= "Paris"'}
    answer = caller.whole(chat_with_tools(tool_choice="none", response_format=form))
    assert only_choice(answer)["message"]["content"] == "Paris"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": None, "tool_choice": "required"}, "tool_choice"),
        ({"tools": None, "tool_choice": "any"}, "tool_choice"),
        ({"tools": None, "tool_choice": NAMED}, "tool_choice"),
        ({"tools": [], "tool_choice": "required"}, "tool_choice"),
        (
            {"tool_choice": {"type": "function", "function": {"name": "other"}}},
            "tool_choice.function.name",
        ),
        ({"tool_choice": {"type": "function", "name": "other"}}, "tool_choice.name"),
        ({"tool_choice": {"type": "function"}}, "tool_choice.function"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"response_format": {"type": "grammar", "grammar": 'root ::= "a"'}}, "response_format"),
        (
            {"tools": [{"type": "function", "function": {"name": "no spaces"}}]},
            "tools[0].function.name",
        ),
        (
            {"tools": [{"type": "function", "function": {"name": "x" * 65}}]},
            "tools[0].function.name",
        ),
        (
            {"tools": [{"type": "function", "function": {"name": "f", "parameters": []}}]},
            "tools[0].function.parameters",
        ),
        ({"tools": None, "function_call": {"name": "f"}}, "function_call"),
        (
            {"tools": None, "functions": [{"name": "f"}], "function_call": {"name": "g"}},
            "function_call.name",
        ),
    ],
)
def test_refused(caller: Caller, fields: Json, param: str) -> None:
    """Calls that cannot be forced, or cannot be distinguished from a format, are refused."""
    assert caller.refusal(chat_with_tools(**fields)).param == param


def test_unenforceable_schema(caller: Caller) -> None:
    """A strict function's schema that cannot be enforced is refused by its path."""
    parameters = CITY | {"not": {"required": ["city"]}}
    function = {"name": "f", "parameters": parameters, "strict": True}
    tools = [{"type": "function", "function": function}]
    refusal = caller.refusal(chat_with_tools(tools=tools, tool_choice="required"))
    assert refusal.param is not None
    assert refusal.param.startswith("tools[0].function.parameters")
    assert "not" in refusal.message
