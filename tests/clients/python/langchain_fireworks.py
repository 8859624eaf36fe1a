"""langchain-fireworks: invoking, streaming, structured output in its three methods, tools."""

from __future__ import annotations

import os
from typing import Any, Literal

import httpx
from langchain_core.exceptions import ContextOverflowError
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)
from langchain_core.tools import tool
from langchain_fireworks import ChatFireworks
from pydantic import BaseModel, Field

MODEL = os.environ["RAPPORT_MODEL"]
HOME = os.environ["RAPPORT_URL"]
QUESTION = "What is the capital of France?"


class City(BaseModel):
    """A city and how many people live there."""

    name: Literal["Paris", "Rome"]
    millions: int = Field(ge=1, le=9)


@tool
def get_weather(city: Literal["Paris", "Rome"]) -> str:
    """Looks up the weather of a city."""
    return f"It is sunny in {city}."


def made(**rest: Any) -> ChatFireworks:
    settings = {"temperature": 0, "max_tokens": 12} | rest
    return ChatFireworks(model=MODEL, base_url=HOME, api_key="none", **settings)


def case_invoke() -> None:
    answer = made().invoke([SystemMessage("Be brief."), HumanMessage(QUESTION)])
    assert isinstance(answer, AIMessage)
    assert answer.content
    assert answer.response_metadata["finish_reason"] in {"stop", "length"}
    usage = answer.usage_metadata
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]
    assert 0 < usage["output_tokens"] <= 12


async def case_async() -> None:
    model = made()
    whole = await model.ainvoke(QUESTION)
    chunks = [chunk async for chunk in model.astream(QUESTION)]
    assert "".join(chunk.content for chunk in chunks) == whole.content


def case_usage_of_a_stream_is_counted_once() -> None:
    model = made()
    whole = model.invoke(QUESTION)
    joined = joined_chunks(model.stream(QUESTION))
    assert joined.content == whole.content
    usage = whole.usage_metadata
    for count in ("input_tokens", "output_tokens", "total_tokens"):
        assert joined.usage_metadata[count] == usage[count]
    assert joined.response_metadata["finish_reason"] == whole.response_metadata["finish_reason"]


def case_usage_of_a_stream_that_does_not_ask() -> None:
    """Usage on the last chunk, unasked, is counted once too; opted out, it is not there."""
    joined = joined_chunks(made(stream_usage=False).stream(QUESTION))
    whole = made().invoke(QUESTION)
    assert joined.usage_metadata["total_tokens"] == whole.usage_metadata["total_tokens"]
    opted_out = {"stream_options": {"include_usage": False}}
    joined = joined_chunks(made(model_kwargs=opted_out).stream(QUESTION))
    assert joined.usage_metadata is None


def case_batch() -> None:
    first, second = made().batch([QUESTION, "What is the capital of Italy?"])
    assert first.content
    assert second.content
    assert first.id != second.id


def case_choices_and_stop() -> None:
    result = made(n=2, temperature=1, stop=["zzz"]).generate([[HumanMessage(QUESTION)]])
    assert len(result.generations[0]) == 2


def case_structured_by_function_calling() -> None:
    model = made(max_tokens=60).with_structured_output(City, method="function_calling")
    assert isinstance(model.invoke(QUESTION), City)


def case_structured_by_json_schema() -> None:
    model = made(max_tokens=60).with_structured_output(City, method="json_schema")
    assert isinstance(model.invoke(QUESTION), City)
    schema = City.model_json_schema()
    model = made(max_tokens=60).with_structured_output(schema, method="json_schema")
    City.model_validate(model.invoke(QUESTION))


def case_structured_by_json_mode() -> None:
    """Only JSON is promised, not the schema; raw is what the model said."""
    model = made(max_tokens=60).with_structured_output(City, method="json_mode", include_raw=True)
    result = model.invoke(f"{QUESTION} Answer in JSON with the keys name and millions.")
    raw = result["raw"]
    assert raw.content.lstrip().startswith("{")
    if raw.response_metadata["finish_reason"] == "stop":
        assert result["parsed"] is not None or "validation error" in str(result["parsing_error"])


def case_structured_in_a_stream() -> None:
    model = made(max_tokens=60).with_structured_output(City, method="json_schema")
    *_, last = model.stream(QUESTION)
    assert isinstance(last, City)


def case_tool_choices() -> None:
    """A name, any, and true each force the call; none forbids it."""
    for choice in ("get_weather", "any", True):
        forced = made(max_tokens=60).bind_tools(
            [get_weather], tool_choice=choice, parallel_tool_calls=False
        )
        answer = forced.invoke("What is the weather in Rome?")
        (call,) = answer.tool_calls
        assert call["name"] == "get_weather"
        assert call["args"]["city"] in {"Paris", "Rome"}
        assert not answer.invalid_tool_calls
        assert answer.response_metadata["finish_reason"] == "tool_calls"
    free = made().bind_tools([get_weather], tool_choice="none")
    answer = free.invoke("What is the weather in Rome?")
    assert answer.content
    assert not answer.tool_calls


def case_tool_round_trip() -> None:
    forced = made(max_tokens=60).bind_tools(
        [get_weather], tool_choice="any", parallel_tool_calls=False
    )
    messages: list[BaseMessage] = [HumanMessage("What is the weather in Rome?")]
    answer = forced.invoke(messages)
    result = get_weather.invoke(answer.tool_calls[0])
    assert isinstance(result, ToolMessage)
    messages += [answer, result]
    said = made().bind_tools([get_weather], tool_choice="none").invoke(messages)
    assert said.content
    assert made().invoke([*messages, said, HumanMessage("Thank you.")]).content


def case_call_in_a_stream() -> None:
    forced = made(max_tokens=60).bind_tools(
        [get_weather], tool_choice="any", parallel_tool_calls=False
    )
    joined = joined_chunks(forced.stream("What is the weather in Rome?"))
    (call,) = joined.tool_calls
    assert call["name"] == "get_weather"
    assert call["args"]["city"] in {"Paris", "Rome"}
    assert len(call["id"]) == len("call_") + 24
    assert len(joined.tool_call_chunks) == 1
    result = get_weather.invoke(call)
    messages = [HumanMessage("What is the weather in Rome?"), joined, result]
    assert made().invoke(messages).content


def case_context_overflow() -> None:
    long = "word " * 9000
    for call in (made().invoke, lambda text: list(made().stream(text))):
        try:
            call(long)
        except ContextOverflowError as error:
            assert "prompt is too long" in str(error)  # noqa: PT017
        else:
            raise AssertionError("no error")


def case_each_request_is_sent_once() -> None:
    sent: list[str] = []
    send = httpx.Client.send

    def counted(http: httpx.Client, request: httpx.Request, **rest: Any) -> httpx.Response:
        sent.append(str(request.url))
        return send(http, request, **rest)

    httpx.Client.send = counted  # type: ignore[method-assign]
    try:
        made().invoke(QUESTION)
        list(made().stream(QUESTION))
    finally:
        httpx.Client.send = send  # type: ignore[method-assign]
    assert sent == [f"{HOME}/v1/chat/completions"] * 2


def joined_chunks(chunks: Any) -> AIMessageChunk:
    first, *rest = chunks
    for chunk in rest:
        first += chunk
    return first
