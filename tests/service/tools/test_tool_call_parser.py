from __future__ import annotations

import json
import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rapport.service.tools.bare_call import BareCallHead
from rapport.service.tools.call_format import FORMATS, HERMES, LLAMA, CallFormat
from rapport.service.tools.tool_call_parser import (
    ArgumentsDelta,
    CallStart,
    ObjectEnd,
    ParserEvent,
    TextDelta,
    ToolCallParser,
)
from tests.service.tools.calls import hermes_call

NAMES = ("f", "get_weather", "get_weather2")
OPEN_TAG, CLOSE_TAG = "<tool_call>", "</tool_call>"
call, call_head, CALL_TAIL = hermes_call, HERMES.call_head, HERMES.tail
F = call("f", '{"x": 1}')
BARE = '{"name": "f", "arguments": {"x": 1}}'
# Patterns of the markup of a call, which may be cut at its end.
B = r"[ \t\r\n]*"
HEAD = B + B.join((OPEN_TAG, r"\{{", '"name"', ":", '"{name}"', ",", '"arguments"', ":", ""))
TAIL = rf"({B}\}}?{B}{CLOSE_TAG})?{B}"
BARE_HEAD = rf"({B}```[A-Za-z]*){{{{0,2}}}}" + HEAD.replace(OPEN_TAG, "")
BARE_TAIL = rf"({B}\}})?{B}"
ENDS = [CLOSE_TAG[:length] for length in range(len(CLOSE_TAG))]
# Pieces that are made to be mistaken for calls, whole, cut or nested.
HOSTILE = st.lists(
    st.sampled_from(
        [
            OPEN_TAG,
            CLOSE_TAG,
            call_head("f"),
            call_head("unknown"),
            CALL_TAIL,
            F,
            call("get_weather2", '{"s": "}<tool_call>\\"{["}'),
            "<tool_",
            "```",
            "json\n",
            "<",
            "{}",
            '{"',
            "}",
            "\n",
            "text",
        ]
    )
    | st.text(max_size=3)
).map("".join)


def read(*pieces: str, form: CallFormat = HERMES) -> list[ParserEvent]:
    reader = ToolCallParser(NAMES, form)
    events = [event for piece in pieces for event in reader.push(piece)]
    return [*events, *reader.end()]


def joined(events: list[ParserEvent]) -> list[tuple[str, str]]:
    """What is said, and name and arguments of each call, in order."""
    parts: list[tuple[str, str]] = []
    for event in events:
        match event:
            case TextDelta(text) if parts and not parts[-1][0]:
                parts[-1] = ("", parts[-1][1] + text)
            case TextDelta(text):
                parts.append(("", text))
            case CallStart(name):
                parts.append((name, ""))
            case ArgumentsDelta(text):
                parts[-1] = (parts[-1][0], parts[-1][1] + text)
    return parts


def cut(text: str, places: list[int]) -> list[str]:
    bounds = [0, *sorted(place % (len(text) + 1) for place in places), len(text)]
    return [text[start:end] for start, end in pairwise(bounds)]


def test_text() -> None:
    """Text without calls is itself."""
    assert read("Hello ", "there.\n") == [TextDelta("Hello"), TextDelta(" there."), TextDelta("\n")]


def test_call() -> None:
    """A call is its name and the text of its arguments."""
    assert read(F) == [CallStart("f"), ArgumentsDelta('{"x": 1}')]


def test_text_before() -> None:
    """Text comes before a call, without the blanks between them."""
    assert joined(read("Let me see.\n\n" + F)) == [("", "Let me see."), ("f", '{"x": 1}')]


@pytest.mark.parametrize("before", ["<", "a <tool_", "<tool_call><"])
def test_text_like_a_tag_before(before: str) -> None:
    """Text that looks like the beginning of a tag does not hide the tag after it."""
    assert joined(read(before + F)) == [("", before), ("f", '{"x": 1}')]


@pytest.mark.parametrize("between", ["", "\n", " \n\t"])
def test_several(between: str) -> None:
    """Calls follow each other; blanks around them are no text."""
    text = between.join(["", F, call("get_weather", "{}"), F, ""])
    expected = [("f", '{"x": 1}'), ("get_weather", "{}"), ("f", '{"x": 1}')]
    assert joined(read(text)) == expected


def test_arguments_come_as_they_are_written() -> None:
    """A call begins with the brace of its arguments, and those come piece by piece."""
    reader = ToolCallParser(NAMES)
    assert list(reader.push(OPEN_TAG + call_head("f"))) == []
    assert list(reader.push('{"x')) == [CallStart("f"), ArgumentsDelta('{"x')]
    assert list(reader.push('": 1')) == [ArgumentsDelta('": 1')]
    assert reader.in_arguments
    assert list(reader.push("}}\n</tool")) == [ArgumentsDelta("}")]
    assert not reader.in_arguments
    assert list(reader.end()) == []


@pytest.mark.parametrize("tag", ["<", "<tool", "\n<tool_call", "  "])
def test_beginnings_are_held_back(tag: str) -> None:
    """What may be a tag waits until it is certain that it is none."""
    reader = ToolCallParser(NAMES)
    assert list(reader.push("Hm" + tag)) == [TextDelta("Hm")]
    assert list(reader.push("!")) == [TextDelta(tag + "!")]


@pytest.mark.parametrize(
    "text",
    [
        call("unknown", "{}"),
        "<tool_call>nothing</tool_call>",
        '<tool_call>\n{"name": "f", "arguments": []}\n</tool_call>',
        '<tool_call>\n{"name": "f", "arguments": ',
        '<tool_call>\n{"arguments": {}, "name": "f"}\n</tool_call>',
        "I write <tool_call> where I call.",
        "<tool_call>" + " " * 1000,
        "</tool_call>",
        "<tool_",
    ],
)
def test_no_call(text: str) -> None:
    """What is no call after all comes out as the text that it is."""
    assert joined(read(text)) == [("", text)]


def test_text_that_is_no_call_does_not_wait_for_ever() -> None:
    """After a tag there is only so much that the beginning of a call can be."""
    reader = ToolCallParser(NAMES)
    assert list(reader.push("<tool_call> is a tag. " * 20)) != []


def test_broken_call_before_a_call() -> None:
    """A broken call does not affect the next one."""
    text = call("unknown", "{}")
    assert joined(read(text + "\n" + F)) == [("", text), ("f", '{"x": 1}')]


@pytest.mark.parametrize("tail", ["", "}", "}\n", "}\n</tool_", "\n</tool_call>", "}</tool_call>"])
def test_unfinished_tail(tail: str) -> None:
    """A call is whole once its arguments are; what ends it is never text."""
    assert read(OPEN_TAG + call_head("f") + "{}" + tail) == [
        CallStart("f"),
        ArgumentsDelta("{}"),
    ]


@pytest.mark.parametrize(
    ("before", "between", "after"),
    [
        ("", "", ""),
        (" \n", "\n", "\n"),
        ("```json\n", "\n", "\n```"),
        ("```\n", "\n```\n\n```\n", "\n```\n"),
        ("", "", "\n``"),
    ],
)
@pytest.mark.parametrize("key", ["arguments", "parameters"])
@pytest.mark.parametrize("indent", [None, 4])
def test_calls_without_tags(
    before: str, between: str, after: str, key: str, indent: int | None
) -> None:
    """An answer may begin with calls without tags, alone or in blocks of code."""
    arguments = {"city": "Rome", "days": [1, {}]}
    call = json.dumps({"name": "f", key: arguments}, indent=indent)
    expected = [("f", arguments)] * 2
    for pieces in (
        [before + call + between + call + after],
        before + call + between + call + after,
    ):
        said = joined(read(*pieces))
        assert [(name, json.loads(text)) for name, text in said] == expected


@pytest.mark.parametrize(
    "text",
    [
        f"Call {BARE}.",
        "```python\nf(1)\n```",
        '{"name": "unknown", "arguments": {}}',
        '{"name": "f", "arguments": []}',
        '{"name": "f", "description": "", "parameters": {}}',
        '{"name": "f", "argu',
        "```json\n{",
        "```",
        "{}",
    ],
)
def test_json_that_is_no_call(text: str) -> None:
    """JSON is no call behind other text, or if it calls no function with an object."""
    assert joined(read(text)) == joined(read(*text)) == [("", text)]


def test_code_does_not_wait() -> None:
    """Text that begins with JSON or code is passed on once it cannot be a call."""
    reader = ToolCallParser(NAMES)
    assert list(reader.push('```json\n{"name": "get_w')) == []
    assert list(reader.push("ine")) == [TextDelta('```json\n{"name": "get_wine')]
    assert list(reader.push(BARE)) == [TextDelta(BARE)]


@pytest.mark.parametrize("text", [" " * 5000, "```" + "a" * 5000, '{"name"' + " " * 5000])
def test_a_head_without_tags_has_an_end(text: str) -> None:
    """What is too long is text, however it is cut: each piece would cost a look at all of it."""
    head = BareCallHead(["f"])
    assert head.may_become(text[:500])
    assert not head.may_become(text)
    assert head.match(" " * 5000 + '{"name": "f", "arguments": {') is None


def test_a_call_without_tags_that_is_cut() -> None:
    """A call that ends in its arguments is not whole; text behind a call is text."""
    reader = ToolCallParser(NAMES)
    assert list(reader.push(BARE[:-3])) == [CallStart("f"), ArgumentsDelta('{"x": ')]
    assert reader.in_arguments
    assert joined(read(BARE + "\nDone.")) == [("f", '{"x": 1}'), ("", "\nDone.")]
    assert joined(read(BARE + '\n{"name": ')) == [("f", '{"x": 1}')]


def test_text_after() -> None:
    """Text may follow a call."""
    assert joined(read(F + "\nDone.")) == [("f", '{"x": 1}'), ("", "\nDone.")]
    assert joined(read(F[: -len(CALL_TAIL)] + "} Done.")) == [
        ("f", '{"x": 1}'),
        ("", "} Done."),
    ]


@given(HOSTILE, st.lists(st.integers(min_value=0)))
def test_pieces_make_no_difference(text: str, places: list[int]) -> None:
    """However a text is cut, it has the same calls and the same content."""
    assert joined(read(*cut(text, places))) == joined(read(text))


@given(HOSTILE)
def test_nothing_is_lost(text: str) -> None:
    """Beside what is given out there is nothing in a text but the markup of calls, and blanks."""
    parts = [called(name, re.escape(said)) for name, said in joined(read(text))]
    found = re.fullmatch("".join(parts) + rf"{B}\}}?{B}(?P<rest>(?s:.*))", text)
    assert found
    assert found["rest"] in ENDS or BareCallHead(NAMES).may_become(found["rest"])


def called(name: str, said: str) -> str:
    """A pattern of how a call of `name` may be written, or of text where there is no name."""
    tagged, bare = HEAD.format(name=name) + said + TAIL, BARE_HEAD.format(name=name) + said
    return f"({tagged}|{bare}{BARE_TAIL})" if name else said


@given(
    st.dictionaries(
        st.text(), st.recursive(st.none() | st.text(), st.lists, max_leaves=5), max_size=3
    ),
    st.text(max_size=3),
)
def test_arguments_are_exact(value: dict[str, object], after: str) -> None:
    """The arguments are the JSON text of the object, to the letter."""
    text = json.dumps(value, ensure_ascii=False)
    end = ObjectEnd()
    assert end.push(text + after) == len(text)
    assert end.found
    assert read(call("f", text)) == [CallStart("f"), ArgumentsDelta(text)]


def test_long_arguments() -> None:
    """Long arguments may come in single letters; reading is linear."""
    text = json.dumps({"text": "x" * 20_000})
    assert joined(read(*call("f", text))) == [("f", text)]


@pytest.mark.parametrize("tail", ["}", "}\n</tool_ca", "\n}\n<"])
def test_a_tail_that_is_cut_at_the_end_is_no_text(tail: str) -> None:
    """What may still become the tail of a call is dropped where the text ends, in any pieces."""
    head = F[: F.rindex("}")]
    pieces = [*head, *tail]
    assert joined(read(*pieces)) == joined(read(head + tail)) == [("f", '{"x": 1}')]


@pytest.mark.parametrize("rest", ["} and so on, without an end tag", "} and"])
def test_text_in_place_of_a_tail_is_kept(rest: str) -> None:
    """Text that cannot be the tail of a call is kept whole, in any pieces, long or short."""
    head = F[: F.rindex("}")]
    pieces = [*head, *rest]
    expected = [("f", '{"x": 1}'), ("", rest)]
    assert joined(read(*pieces)) == joined(read(head + rest)) == expected


MARKED = pytest.mark.parametrize("form", FORMATS, ids=lambda form: form.marker + form.head)
CALLS = [("f", '{"x": "]}, {"}'), ("get_weather", "{}")]


@MARKED
def test_every_format_is_read(form: CallFormat) -> None:
    """Calls are the same in every format, in any pieces, also with blanks around their symbols."""
    text = form.write(CALLS if form.separator else CALLS[:1])
    expected = CALLS if form.separator else CALLS[:1]
    for pieces in ([text], text, ["\n", *text, "\n"]):
        assert joined(read(*pieces, form=form)) == expected
    if form is not LLAMA:
        assert joined(read("Hm. \n", *text, form=form)) == [("", "Hm."), *expected]


@MARKED
def test_a_cut_call_is_no_text_from_its_arguments_on(form: CallFormat) -> None:
    """Wherever the text ends, nothing of the end of a whole call is text."""
    text = form.write(CALLS[:1])
    begin = text.index("{", len(form.marker) * form.is_marked + len(form.opening + form.head) - 2)
    for length in range(begin + len(CALLS[0][1]), len(text) + 1):
        assert joined(read(text[:length], form=form)) == CALLS[:1]


@given(form=st.sampled_from(FORMATS), data=st.data())
def test_pieces_make_no_difference_in_any_format(form: CallFormat, data: st.DataObject) -> None:
    """However a text is cut, it has the same calls and the same content."""
    parts = [
        form.marker,
        form.write(CALLS[:1]),
        form.write(CALLS),
        form.opening + form.call_head("f") + "{}" + form.tail,
        form.separator or "; ",
        form.closing,
        form.marker[:3],
        "text",
        " ",
    ]
    text = "".join(data.draw(st.lists(st.sampled_from(parts), max_size=6)))
    places = data.draw(st.lists(st.integers(min_value=0), max_size=6))
    assert joined(read(*cut(text, places), form=form)) == joined(read(text, form=form))
