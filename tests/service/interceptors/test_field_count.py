"""Messages of very many fields are refused before they are parsed."""

from __future__ import annotations

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from rapport.common.fair_threads import finish
from rapport.service.errors import UnreadableRequestError
from rapport.service.interceptors import field_count
from rapport.service.interceptors.field_count import MAX_FIELDS, check_field_count
from rapport.v1.chat_pb2 import CreateChatCompletionRequest, StopList, StopSequences
from rapport.v1.message_pb2 import ChatContent, ChatMessage, Role

EMPTY_MESSAGE = b"\x12\x00"
UNKNOWN = b"\xf8\x7f\x00"


def check(data: bytes) -> None:
    finish(check_field_count(data, CreateChatCompletionRequest))


@pytest.mark.parametrize("field", [EMPTY_MESSAGE, UNKNOWN])
def test_just_as_many_as_may_be(field: bytes) -> None:
    check(field * MAX_FIELDS)
    with pytest.raises(UnreadableRequestError, match=f"more than {MAX_FIELDS} fields"):
        check(field * (MAX_FIELDS + 1))


@pytest.mark.parametrize("texts", [0, 1, 50])
def test_fields_of_messages_in_it_count(monkeypatch: pytest.MonkeyPatch, texts: int) -> None:
    """And what is no message, such as a text, is one, whatever its bytes are."""
    content = ChatContent(text="\x12\x00" * 1000)
    message = ChatMessage(role=Role.ROLE_USER, content=content)
    stop = StopSequences(list=StopList(items=["\x12\x00"] * texts))
    request = CreateChatCompletionRequest(messages=[message], stop=stop)
    fields = 1 + 1 + 1 + 1 + 1 + 1 + texts  # messages, role, content, text, stop, list
    data = request.SerializeToString()
    monkeypatch.setattr(field_count, "MAX_FIELDS", fields)
    check(data)
    monkeypatch.setattr(field_count, "MAX_FIELDS", fields - 1)
    with pytest.raises(UnreadableRequestError):
        check(data)


@given(st.binary(max_size=60))
def test_any_bytes_are_counted_to_an_end(data: bytes) -> None:
    """No bytes do any harm; those that are malformed are for the parser to refuse."""
    check(data)


@given(st.binary(max_size=30), st.integers(2, 6))
def test_no_more_is_parsed_than_was_counted(data: bytes, times: int) -> None:
    """What follows malformed bytes is not parsed, so it need not be counted."""
    try:
        CreateChatCompletionRequest.FromString(data)
    except DecodeError:
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(field_count, "MAX_FIELDS", times - 1)
        with pytest.raises(UnreadableRequestError):
            check(data + EMPTY_MESSAGE * times)
