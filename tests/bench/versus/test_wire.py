from __future__ import annotations

import asyncio

import pytest

from bench.versus.asks import chat, said
from bench.versus.wire import Wire
from tests.bench.conftest import PROMPT_TOKENS, Fake, fake

__all__ = ["fake"]

EVENT = b'data: {"choices": [{"delta": {"content": "x"}, "finish_reason": null}]}\n\n'


async def test_an_answer_has_text_times_and_usage(fake: Fake) -> None:
    """What came, when, and what the server counted."""
    answer = await Wire(fake.rest, "m", 5).ask(chat([said("user", "hi")], 4))
    assert answer.error is None
    assert answer.text == "word0 word1 word2 word3 "
    assert (answer.prompt_tokens, answer.completion_tokens) == (PROMPT_TOKENS, 4)
    assert len(answer.texts) == 4
    assert answer.ttft is not None
    assert answer.ttft < answer.ended - answer.started


async def test_a_refusal_is_an_error_of_its_status(fake: Fake) -> None:
    """Figures are never made of refusals."""
    body = chat([said("user", "hi")], 4) | {"temperature": 2}
    assert (await Wire(fake.rest, "m", 5).ask(body)).error == "HTTP 429"


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", "stream cut off"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(EVENT), EVENT), "stream cut"),
        (b"nonsense\r\n\r\n", "illegal status line"),
    ],
)
async def test_a_broken_answer_is_an_error_at_once(reply: bytes, error: str) -> None:
    """A stream without its end, or one that is no HTTP, does not hang until the limit."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(reply)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        answer = await Wire(f"http://127.0.0.1:{port}", "m", 5).ask(chat([], 1))
    assert answer.error is not None
    assert error in answer.error
