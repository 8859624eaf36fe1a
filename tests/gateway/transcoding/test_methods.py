"""Methods: the twin that a request asks for, and the fields that it hides."""

from __future__ import annotations

import pytest

from rapport.gateway.transcoding.codec.rules import UnsupportedError
from rapport.gateway.transcoding.methods import compile_operation
from rapport.v1 import chat_pb2
from tests.gateway.library import SERVICE, descriptor_set, pool_of, rpc

CHAT = chat_pb2.DESCRIPTOR.services_by_name["ChatService"].methods_by_name["CreateChatCompletion"]


def test_twin() -> None:
    """The streaming twin is chosen by the flag, and only when it is true."""
    chat = compile_operation(CHAT, ignore_unknown=False)
    for said, path in (
        ({}, "CreateChatCompletion"),
        ({"stream": False}, "CreateChatCompletion"),
        ({"stream": True}, "StreamChatCompletion"),
    ):
        assert chat.choose(chat.decode(said)).path == f"/rapport.v1.ChatService/{path}"


def test_hidden_usage() -> None:
    """Usage of a chat's stream is hidden only by an explicit false."""
    chat = compile_operation(CHAT, ignore_unknown=False)
    chunk = chat_pb2.StreamChatCompletionResponse(usage={"prompt_tokens": 1}).SerializeToString()
    for options, hidden in (
        ({}, False),
        ({"stream_options": {}}, False),
        ({"stream_options": {"include_usage": True}}, False),
        ({"stream_options": {"include_usage": False}}, True),
    ):
        request = chat.decode({"stream": True, **options})
        shown = chat.choose(request).renderer(request)(chunk)
        assert (b'"usage":null' in shown) == hidden


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"options.show_total", b"options.show_tatol"),
        (b"options.show_total", b"message.show_total"),
        (b"options.show_total", b"optimal.show_total"),
        (b"\x0a\x0aStreamTell\x12\x06stream", b"\x0a\x0aStreamTell\x12\x06strean"),
        (b"\x0a\x0aStreamTell\x12\x06stream", b"\x0a\x0aStreamYell\x12\x06stream"),
    ],
)
def test_options_that_lead_nowhere(old: bytes, new: bytes) -> None:
    """Options that name what is not there are refused when they are learned."""
    assert old in descriptor_set()
    changed = pool_of(descriptor_set().replace(old, new))
    with pytest.raises(UnsupportedError):
        compile_operation(
            changed.FindServiceByName(SERVICE).methods_by_name["Tell"], ignore_unknown=False
        )


def test_client_streaming() -> None:
    """An RPC with a stream of requests has no REST form."""
    with pytest.raises(UnsupportedError, match="client streaming"):
        compile_operation(rpc("Talk"), ignore_unknown=False)
