"""`rapport chat`, before a service that says what it should not."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest

from rapport.cli import chat
from rapport.v1 import chat_pb2, chat_pb2_grpc

Requests = list[chat_pb2.CreateChatCompletionRequest]

CLEAR = "\x1b[2J\x1b]0;renamed\x07"
SHOWN = r"\x1b[2J\x1b]0;renamed\x07"


class Chats(chat_pb2_grpc.ChatServiceServicer):
    """Answers with a sequence that is cut between its characters, or with an error of it."""

    def __init__(self, asked: Requests) -> None:
        self.asked = asked

    def StreamChatCompletion(  # noqa: N802 - the RPC's name
        self, request: chat_pb2.CreateChatCompletionRequest, context: Any
    ) -> Iterator[chat_pb2.StreamChatCompletionResponse]:
        self.asked.append(request)
        if request.messages[-1].content.text == "fail":
            context.abort(grpc.StatusCode.INTERNAL, CLEAR)
        for char in f"a :smile: [b] {CLEAR}":
            chunk = chat_pb2.StreamChatCompletionResponse()
            chunk.choices.add().delta.content = char
            yield chunk


@pytest.fixture
def asked() -> Requests:
    """The requests that came."""
    return []


@pytest.fixture
def target(asked: Requests) -> Iterator[str]:
    with ThreadPoolExecutor() as threads:
        server = grpc.server(threads)
        chat_pb2_grpc.add_ChatServiceServicer_to_server(Chats(asked), server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        yield f"127.0.0.1:{port}"
        server.stop(None).wait()


def test_answers_do_not_command_the_terminal(
    target: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Control characters of an answer are seen, also if they come in pieces; its text stays."""
    assert chat.main(["--target", target, "--model", "m", "hello"]) == 0
    assert capsys.readouterr().out == f"a :smile: [b] {SHOWN}\n"


def test_errors_do_not_command_the_terminal(
    target: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nor do those of an error."""
    assert chat.main(["--target", target, "--model", "m", "fail"]) == 1
    assert capsys.readouterr().err == f"rapport chat: {SHOWN}\n"


@pytest.mark.parametrize(
    ("arguments", "sampling"),
    [
        (["--model", "smollm2-135m-instruct"], (0.2, 0.9, 512)),
        (["--model", "accounts/fireworks/models/smollm2-360m-instruct"], (0.2, 0.9, 512)),
        (["--model", "smollm2-135m-instruct", "--temperature", "0"], (0.0, 0.9, 512)),
        (["--model", "smollm2-135m-instruct", "--top-p", "1", "--max-tokens", "9"], (0.2, 1.0, 9)),
        (["--model", "other"], (None, None, 512)),
    ],
)
def test_sampling(
    target: str,
    asked: Requests,
    arguments: list[str],
    sampling: Any,
) -> None:
    """A question is asked with what suits the model, unless options say otherwise."""
    assert chat.main(["--target", target, *arguments, "hello"]) == 0
    (request,) = asked
    found = [
        getattr(request, field) if request.HasField(field) else None
        for field in ("temperature", "top_p", "max_tokens")
    ]
    assert tuple(found) == sampling
