"""Whatever comes, the answer is a good one or an error of the caller, in the one shape."""

from __future__ import annotations

import copy
from typing import Any

import httpx
import orjson
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.contract.callers import JSON, PATH, Json, Rest, chat, user
from tests.contract.examples import FORMATS, TOOLS
from tests.contract.test_request_fields import PRESENT

bounded = settings(
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

ODD_TEXTS = st.sampled_from(
    [
        "",
        " ",
        "\0",
        "\u200d",
        "\ufeff",
        "🏳️‍🌈",
        "\u202e",
        "x" * 5000,
        "\U0010ffff",
        "<|im_end|>",
        "{{ 7 }}",
    ]
)
TEXTS = st.text(st.characters(codec="utf-8"), max_size=8) | ODD_TEXTS
# orjson writes integers up to 64 bits; larger ones come as floats.
NUMBERS = st.one_of(
    st.integers(-(2**63), 2**64 - 1),
    st.sampled_from([0, -1, 1e308, -1e308, 5e-324, 2**31, 2**63, -0.0, 1e20]),
)
LEAVES = st.none() | st.booleans() | NUMBERS | TEXTS
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)
MESSAGES: list[Json] = [
    user("Hi"),
    {"role": "system", "content": ""},
    {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
    {"role": "assistant", "content": "Hello", "refusal": None},
    {
        "role": "assistant",
        "tool_calls": [
            {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
        ],
    },
    {"role": "tool", "tool_call_id": "c", "content": "1"},
]
# Requests that are good, each with some of the fields there are.
FIELDS = PRESENT | {"logprobs": 2, "echo_last": 2, "n": 2, "stream": True}
GOOD_REQUESTS = st.fixed_dictionaries(
    {"messages": st.lists(st.sampled_from(MESSAGES), min_size=1, max_size=3)},
    optional={
        **{name: st.just(value) for name, value in FIELDS.items()},
        "response_format": st.sampled_from(FORMATS),
        "tools": st.just(TOOLS),
    },
)


def places(value: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all that is in a JSON value."""
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        return [here, *(place for key, inner in items for place in places(inner, (*here, key)))]
    return [here]


def changed(request: Json, place: tuple[Any, ...], value: Any) -> Json:
    """The request with another value at one place."""
    request = copy.deepcopy(request)
    *way, last = place
    target: Any = request
    for key in way:
        target = target[key]
    target[last] = value
    return request


@st.composite
def mutated(draw: st.DrawFn) -> Json:
    """A good request of which one to three things are something else, or one too many."""
    request = chat() | draw(GOOD_REQUESTS)
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.sampled_from(places(request)[1:]))
        if draw(st.booleans()):
            place = (*place[:-1], draw(TEXTS)) if isinstance(place[-1], str) else place
        request = changed(request, place, draw(VALUES))
    return request


def brief(request: Json) -> Json:
    """The request, made quick to answer where it can be answered at all."""
    long = isinstance(request.get("n"), int) and request["n"] > 2
    short = request | {"max_tokens": 1} | ({"n": 2} if long else {})
    return {key: value for key, value in short.items() if key != "max_completion_tokens"}


def check(response: httpx.Response) -> None:
    """A good answer, or the caller's error in the one shape."""
    assert response.status_code < 500, response.text
    if response.status_code != 200:
        error = orjson.loads(response.content)["error"]
        assert list(error) == ["object", "type", "code", "message", "param"]
        assert error["object"] == "error"
        assert all(isinstance(error[key], str) for key in ("type", "code", "message"))
        assert error["message"]
        assert isinstance(error["param"], str | None)
    elif response.headers["content-type"].startswith("text/event-stream"):
        assert response.text.endswith("data: [DONE]\n\n")
        assert '"error"' not in response.text
    else:
        assert response.json()["object"] == "chat.completion"


@settings(bounded, max_examples=25)
@given(fields=GOOD_REQUESTS)
def test_good_requests(rest: Rest, fields: Json) -> None:
    """Good fields in any combination are answered, or refused where they exclude each other."""
    check(rest.post(brief(chat() | fields)))


@settings(bounded, max_examples=150)
@given(request=mutated())
@example(request=chat(messages=[user("Hi")] * 300, n="x"))
@example(request=chat(logit_bias={str(token): 1 for token in range(1000)}))
@example(request=chat(stop=["\0", "🏳️‍🌈"]))
@example(request=chat(top_p=5e-324, temperature=5e-324))
@example(request=chat(mirostat_target=1e308, mirostat_lr=1e308, temperature=1))
@example(request=chat(repetition_penalty=0, temperature=1))
@example(request=chat(repetition_penalty=5e-324, frequency_penalty=-2, temperature=1))
@example(request=chat(messages=[{"role": "assistant", "content": ""}]))
def test_bad_requests(rest: Rest, request: Json) -> None:
    """Wrong types, huge numbers, odd text and unknown keys anywhere are errors of the caller."""
    check(rest.post(brief(request)))


@settings(bounded, max_examples=60)
@given(body=VALUES)
def test_any_json(rest: Rest, body: Any) -> None:
    """JSON that is no request at all is refused."""
    response = rest.post(body)
    assert response.status_code == 400
    check(response)


@settings(bounded, max_examples=40)
@given(body=st.binary(max_size=40))
def test_any_bytes(rest: Rest, body: bytes) -> None:
    """Bytes that are no JSON are refused."""
    check(rest.http.post(PATH, content=body, headers=JSON))


def nested(depth: int, opening: bytes, closing: bytes) -> bytes:
    return opening * depth + b"1" + closing * depth


DEPTHS = [10, 100, 500, 1000, 100_000]
HOLDERS = ["metadata", "messages", "stop", "tools", "response_format", "unknown"]


def test_deep_nesting(rest: Rest) -> None:
    """However deep JSON is nested, wherever, it is refused without harm."""
    for depth in DEPTHS:
        for inside in (nested(depth, b"[", b"]"), nested(depth, b'{"a":', b"}")):
            for holder in HOLDERS:
                body = orjson.dumps(chat())[:-1] + b',"%b":%b}' % (holder.encode(), inside)
                response = rest.http.post(PATH, content=body, headers=JSON)
                assert response.status_code == 400
                check(response)


def test_deep_schemas(rest: Rest) -> None:
    """Where JSON may be of any kind, as in schemas and arguments, depth does no harm either."""
    start, end = b'{"type":"object","properties":{"a":', b"}}"
    for depth in DEPTHS:
        schema = start * depth + b"{}" + end * depth
        own = b'"response_format":{"type":"json_object","schema":%b}' % schema
        tool = b'"tools":[{"type":"function","function":{"name":"f","parameters":%b}}]' % schema
        for member in (own, tool, tool + b',"tool_choice":"required"'):
            body = orjson.dumps(chat(max_tokens=1))[:-1] + b",%b}" % member
            check(rest.http.post(PATH, content=body, headers=JSON))


def test_huge_numbers(rest: Rest) -> None:
    """Numbers that no type holds are refused."""
    for field in ("max_tokens", "n", "seed", "temperature", "top_k", "logprobs", "max_tokens"):
        for number in (b"1" + b"0" * 400, b"-1" + b"0" * 25, b"1e400", b"-1e400", b"1e-400"):
            plain = {key: value for key, value in chat(max_tokens=1).items() if key != field}
            body = orjson.dumps(plain)[:-1] + b',"%b":%b}' % (field.encode(), number)
            check(rest.http.post(PATH, content=body, headers=JSON))


def test_broken_unicode(rest: Rest) -> None:
    """Half a surrogate pair and bytes that are no UTF-8 are refused."""
    for text in (b"\\ud800", b"\\udfff\\ud800", b"\xed\xa0\x80", b"\xc0\x80", b"\xff"):
        body = orjson.dumps(chat("@")).replace(b"@", text)
        response = rest.http.post(PATH, content=body, headers=JSON)
        assert response.status_code == 400
        check(response)
