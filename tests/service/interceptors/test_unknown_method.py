from __future__ import annotations

import logging

import grpc
import pytest


async def test_unknown_methods_are_logged(
    channel: grpc.aio.Channel, caplog: pytest.LogCaptureFixture
) -> None:
    """A call of a method that nobody has is logged with its status and the caller's id, the next
    ones of the same second are not."""
    caplog.set_level(logging.INFO, "rapport.access")
    call = channel.unary_unary("/rapport.v1.ChatService/Nothing")
    for number in range(3):
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await call(b"", metadata=[("x-request-id", f"mine-{number}")])
        assert raised.value.code() is grpc.StatusCode.UNIMPLEMENTED
        assert raised.value.details() == "Method not found!"
    line = "(unknown method) UNIMPLEMENTED UNKNOWN_METHOD; 0 more were not logged"
    assert caplog.messages[0] == line
    assert caplog.records[0].__dict__["fields"]["request_id"] == "mine-0"
