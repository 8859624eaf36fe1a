"""Two clients with the same interface, JSON in and JSON out: over REST and over gRPC."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import grpc
import httpx
import orjson
from google.protobuf import symbol_database
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest
from grpc_status import rpc_status

from rapport.gateway.transcoding.codec.decode import decoder
from rapport.gateway.transcoding.codec.encode import encoder
from rapport.v1.chat_pb2 import (
    CreateChatCompletionRequest,
    CreateChatCompletionResponse,
    StreamChatCompletionResponse,
)
from rapport.v1.chat_pb2_grpc import ChatServiceStub
from tests.conftest import MODEL

Json = dict[str, Any]

PATH = "/v1/chat/completions"
QUESTION = "What is the capital of France?"

to_proto = decoder(CreateChatCompletionRequest.DESCRIPTOR, ignore_unknown=False)
show_whole = encoder(CreateChatCompletionResponse.DESCRIPTOR)
show_piece = encoder(StreamChatCompletionResponse.DESCRIPTOR)


def user(text: str) -> Json:
    return {"role": "user", "content": text}


def chat(*texts: str, **fields: Any) -> Json:
    """A short greedy request with these user messages and other fields."""
    messages = [user(text) for text in texts or (QUESTION,)]
    given = {"model": MODEL, "messages": messages, "temperature": 0, "max_tokens": 4}
    return given | fields


@dataclass(frozen=True, slots=True)
class Refusal:
    """What both protocols return for a request that is refused."""

    message: str
    param: str | None


class Caller(Protocol):
    """A way to call the server."""

    def whole(self, request: Json) -> Json:
        """The answer in one message."""

    def pieces(self, request: Json) -> list[Json]:
        """The answer's messages as a stream."""

    def refusal(self, request: Json) -> Refusal:
        """How an invalid request is refused."""


class Rest:
    """Calls over HTTP."""

    def __init__(self, http: httpx.Client) -> None:
        self.http = http

    def post(self, request: Any, **options: Any) -> httpx.Response:
        """The response to a chat request, of any status."""
        return self.http.post(PATH, content=orjson.dumps(request), **{"headers": JSON} | options)

    def whole(self, request: Json) -> Json:
        response = self.post(request)
        assert response.status_code == httpx.codes.OK, response.text
        return orjson.loads(response.content)

    def pieces(self, request: Json) -> list[Json]:
        response = self.post(request | {"stream": True})
        assert response.status_code == httpx.codes.OK, response.text
        return events(response.text)

    def refusal(self, request: Json) -> Refusal:
        response = self.post(request)
        assert response.status_code == httpx.codes.BAD_REQUEST, response.text
        error = orjson.loads(response.content)["error"]
        return Refusal(error["message"], error["param"])


JSON = {"content-type": "application/json"}


def events(text: str) -> list[Json]:
    """The messages of a stream that ended normally."""
    *data, done, rest = text.split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    assert all(line.startswith("data: ") for line in data)
    return [orjson.loads(line.removeprefix("data: ")) for line in data]


class Grpc:
    """Calls over gRPC. Requests and answers are JSON here too."""

    def __init__(self, channel: grpc.Channel) -> None:
        self.channel = channel
        self.stub = ChatServiceStub(channel)

    def whole(self, request: Json) -> Json:
        return shown(show_whole, self.stub.CreateChatCompletion(to_proto(request), timeout=60))

    def pieces(self, request: Json) -> list[Json]:
        stream = self.stub.StreamChatCompletion(to_proto(request), timeout=60)
        return [shown(show_piece, piece) for piece in stream]

    def refusal(self, request: Json) -> Refusal:
        code, message, details = self.failure(to_proto(request))
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        (bad,) = (detail for detail in details if isinstance(detail, BadRequest))
        return Refusal(message, bad.field_violations[0].field)

    def failure(self, request: Message, **options: Any) -> tuple[grpc.StatusCode, str, list[Any]]:
        """The code, message and details of a call that fails."""
        try:
            self.stub.CreateChatCompletion(request, **{"timeout": 60} | options)
        except grpc.RpcError as error:
            return error.code(), error.details(), unpacked(error)
        raise AssertionError("the call did not fail")


def shown(show: Any, message: Message) -> Json:
    return orjson.loads(orjson.dumps(show(message)))


def unpacked(error: Any) -> list[Message]:
    """The google.rpc details of an error."""
    status = rpc_status.from_call(error)
    found = []
    for packed in status.details if status else ():
        detail = symbol_database.Default().GetSymbol(packed.TypeName())()
        assert packed.Unpack(detail)
        found.append(detail)
    return found


def content(answer: Json) -> str:
    """The content of the only choice of an answer."""
    (choice,) = answer["choices"]
    return choice["message"]["content"]


def without(request: Json, *keys: str) -> Json:
    return {key: value for key, value in request.items() if key not in keys}
