"""Messages: what real clients send is read as it is meant, and nothing else is."""

from __future__ import annotations

from typing import Any

import pytest

from tests.contract.callers import Caller, Json, Rest, chat, content, user

HI = user("Hi")
NAMELESS = "String should match pattern '^[A-Za-z0-9_-]{1,64}$'"
TEXT_ONLY = "The model reads text only, not"


def conversation(*messages: Json, **fields: Any) -> Json:
    return chat(**fields) | {"messages": list(messages)}


def prompt(caller: Caller, *messages: Json, **fields: Any) -> str:
    """The prompt that messages make, as the model sees it."""
    body = conversation(*messages, raw_output=True, max_tokens=1, **fields)
    return "".join(caller.whole(body)["choices"][0]["raw_output"]["prompt_fragments"])


def turn(role: str, text: str) -> str:
    return f"<|im_start|>{role}\n{text}<|im_end|>\n"


ANSWER = "<|im_start|>assistant\n"


def call(**rest: Any) -> Json:
    function = {"name": "get_time", "arguments": '{"zone": "UTC"}'}
    return {"id": "call_1", "type": "function", "function": function} | rest


def called(**rest: Any) -> Json:
    return {"role": "assistant", "content": None, "tool_calls": [call()]} | rest


RESULT = {"role": "tool", "tool_call_id": "call_1", "content": "12:00"}


@pytest.mark.parametrize("role", ["system", "developer"])
def test_instructions(caller: Caller, role: str) -> None:
    """developer is another name for system; either replaces the template's own prompt."""
    instructions = {"role": role, "content": "Be brief."}
    expected = turn("system", "Be brief.") + turn("user", "Hi") + ANSWER
    assert prompt(caller, instructions, HI) == expected


def test_empty_system_message(caller: Caller) -> None:
    """An empty first system message means no system prompt, not even the model's own."""
    assert prompt(caller, {"role": "system", "content": ""}, HI) == turn("user", "Hi") + ANSWER


@pytest.mark.parametrize(
    "parts",
    ["Hello", [{"type": "text", "text": "Hello"}], [{"type": "text", "text": t} for t in "Hello"]],
)
def test_content(caller: Caller, parts: Any) -> None:
    """Content is a text or parts, which follow each other."""
    assert prompt(caller, user("Hello")) == prompt(caller, {"role": "user", "content": parts})


def test_any_order_of_roles(caller: Caller) -> None:
    """Roles need not alternate, nor end with the user."""
    roles = ("assistant", "user", "user", "system", "assistant")
    rendered = prompt(caller, *({"role": role, "content": role} for role in roles))
    assert rendered.endswith("".join(turn(role, role) for role in roles) + ANSWER)


def test_call_and_result(caller: Caller) -> None:
    """The model sees its call, and the result after it."""
    rendered = prompt(caller, HI, called(), RESULT)
    assert (
        rendered.index('"get_time"') < rendered.index('{"zone": "UTC"}') < rendered.index("12:00")
    )


def test_arguments_may_be_an_object(caller: Caller) -> None:
    """Arguments come as JSON text or as the object itself, which read alike."""
    function = {"name": "get_time", "arguments": {"zone": "UTC"}}
    rendered = prompt(caller, HI, called(tool_calls=[call(function=function)]), RESULT)
    as_text = {"name": "get_time", "arguments": '{"zone":"UTC"}'}
    assert rendered == prompt(caller, HI, called(tool_calls=[call(function=as_text)]), RESULT)


def test_what_the_model_is_not_shown(caller: Caller) -> None:
    """Names, ids of calls and earlier reasoning are read and change nothing."""
    said = {"role": "assistant", "content": "Hello"}
    more = {"name": "Ada_L-1", "reasoning_content": "Hm.", "tool_call_id": None}
    assert prompt(caller, HI, said | more) == prompt(caller, HI, said)


@pytest.mark.parametrize(
    "replayed",
    [
        called(tool_calls=[call(index=0)]),
        called(refusal=None, annotations=None, audio=None, function_call=None),
        called(reasoning_content=None, tool_call_id=None, name=None),
        called(provider_specific_fields={"any": ["thing"]}),
        {key: value for key, value in called().items() if key != "content"},
        called(content=""),
    ],
    ids=["index", "openai", "fireworks", "litellm", "no content", "empty content"],
)
def test_replayed_turns(rest: Rest, replayed: Json) -> None:
    """A turn comes back as clients dump it; what they add to it does not reach the model."""
    assert prompt(rest, HI, replayed, RESULT) == prompt(rest, HI, called(), RESULT)


def test_own_answer_comes_back(rest: Rest) -> None:
    """The message of an answer may be sent back as it is."""
    said = rest.whole(chat())["choices"][0]["message"]
    assert content(rest.whole(conversation(HI, said, HI))) is not None


@pytest.mark.parametrize(
    "key", ["reasoning", "reasoning_details", "id", "native", "cache_control", "approxNumTokens"]
)
def test_unknown_keys(rest: Rest, key: str) -> None:
    """Keys that the vendor refuses are refused, with their place."""
    refusal = rest.refusal(conversation(HI, HI | {key: "x"}))
    expected = f"Extra inputs are not permitted, field: 'messages[1].{key}', value: 'x'"
    assert refusal.message.startswith(expected)
    assert refusal.param == f"messages[1].{key}"


@pytest.mark.parametrize("key", ["refusal", "annotations", "audio", "function_call"])
def test_replayed_keys_with_values(rest: Rest, key: str) -> None:
    """What may come back as null is refused when it says something."""
    refusal = rest.refusal(conversation(HI, called(**{key: "x"}), RESULT))
    assert refusal.param == f"messages[1].{key}"
    assert refusal.message.startswith("Extra inputs are not permitted")


@pytest.mark.parametrize(
    ("message", "field", "expected"),
    [
        ({"content": "Hi"}, "role", "Field required"),
        ({"role": "user"}, "content", "Field required"),
        ({"role": "user", "content": None}, "content", "Field required"),
        ({"role": "assistant", "content": None}, "content", "Field required"),
        (HI | {"name": "no spaces"}, "name", NAMELESS),
        (HI | {"name": "x" * 65}, "name", NAMELESS),
        ({"role": "tool", "content": "12:00"}, "tool_call_id", "Field required"),
        (
            HI | {"tool_calls": [call()]},
            "tool_calls",
            "Only an assistant's message may have tool calls",
        ),
        (
            {
                "role": "user",
                "content": [{"type": "image_url", "image_url": {"url": "https://x/y"}}],
            },
            "content[0]",
            f"{TEXT_ONLY} 'image_url'",
        ),
        (
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "?"},
                    {
                        "type": "video_url",
                        "video_url": {"url": "data:video/mp4;base64,", "detail": "low"},
                    },
                ],
            },
            "content[1]",
            f"{TEXT_ONLY} 'video_url'",
        ),
        (
            called(tool_calls=[call(function={"name": "no spaces", "arguments": "{}"})]),
            "tool_calls[0].function.name",
            NAMELESS,
        ),
    ],
)
def test_refused(caller: Caller, message: Json, field: str, expected: str) -> None:
    """A message that breaks a rule is refused with its place, in both languages alike."""
    refusal = caller.refusal(conversation(HI, message))
    assert refusal.param == f"messages[1].{field}"
    assert refusal.message == f"{expected}, field: 'messages[1].{field}'"


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (
            {"role": "function", "content": "x"},
            (
                "Input should be 'system', 'user', 'assistant', 'tool' or 'developer', "
                "field: 'messages[0].role'"
            ),
        ),
        (
            {"role": "user", "content": 5},
            (
                "2 request validation errors: "
                "Input should be a valid string, field: 'messages[0].content.str'; "
                "Input should be a valid list, "
                "field: 'messages[0].content.list[ChatMessageContent]'"
            ),
        ),
        (
            {"role": "user", "content": [{"type": "text", "text": "a", "index": 1}]},
            (
                "Extra inputs are not permitted, "
                "field: 'messages[0].content.list[ChatMessageContent][0].index', value: 1"
            ),
        ),
        (
            {"role": "user", "content": [{"type": "input_audio"}]},
            (
                "Input should be 'text', 'image_url' or 'video_url', "
                "field: 'messages[0].content.list[ChatMessageContent][0].type'"
            ),
        ),
        (HI | {"name": 5}, "Input should be a valid string, field: 'messages[0].name'"),
        (
            called(tool_calls=[call(approxNumTokens=5)]),
            (
                "Extra inputs are not permitted, "
                "field: 'messages[0].tool_calls[0].approxNumTokens', value: 5"
            ),
        ),
        (
            called(tool_calls=[call(type="retrieval")]),
            "Input should be 'function', field: 'messages[0].tool_calls[0].type'",
        ),
        (
            called(tool_calls=[call(function={"name": "f", "arguments": 5})]),
            None,
        ),
    ],
)
def test_refused_as_json(rest: Rest, message: Json, expected: str | None) -> None:
    """What is no message at all is refused in the vendor's words, nothing is coerced."""
    refusal = rest.refusal(conversation(message))
    assert expected in (None, refusal.message)


def test_there_is_a_message(caller: Caller) -> None:
    """A conversation has at least one message."""
    refusal = caller.refusal(conversation())
    expected = "List should have at least 1 item after validation, not 0, field: 'messages'"
    assert refusal.message == expected
