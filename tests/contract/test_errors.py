"""Errors: one shape over REST, and the same with details over gRPC."""

from __future__ import annotations

import contextlib
import http.client
import math
from typing import Any

import grpc
import httpx
import orjson
import pytest
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo

from rapport.v1.chat_pb2 import CreateChatCompletionRequest
from tests.conftest import MODEL
from tests.contract.callers import JSON, PATH, Grpc, Json, Rest, chat, to_proto

BAD = "invalid_request_error"
NO_MODEL = f"Model not found, inaccessible, and/or not deployed; served: {MODEL}"
LONG = chat(max_tokens=4000, ignore_eos=True)


def error_of(response: httpx.Response) -> Json:
    """The error of a response, which has the one shape, and an id to ask about."""
    body = orjson.loads(response.content)
    assert list(body) == ["error"]
    error: Json = body["error"]
    assert list(error) == ["object", "type", "code", "message", "param"]
    assert error["object"] == "error"
    assert isinstance(error["message"], str)
    assert response.headers["x-request-id"]
    assert response.headers["content-type"] == "application/json"
    return error


def summary(error: Json) -> tuple[Any, ...]:
    return error["type"], error["code"], error["message"], error["param"]


def test_one_violation(rest: Rest) -> None:
    """A single error names its field, and its value if that is simple."""
    response = rest.post(chat(surprise=True))
    assert response.status_code == 400
    expected = "Extra inputs are not permitted, field: 'surprise', value: True"
    assert summary(error_of(response)) == (BAD, BAD, expected, "surprise")


def test_several_violations(rest: Rest) -> None:
    """Several things wrong are counted and listed, and param is the first."""
    response = rest.post(chat(stream_options={"x": {}}, n="1", tools=[{"type": "x"}]))
    assert response.status_code == 400
    error = error_of(response)
    assert error["message"] == (
        "3 request validation errors: "
        "Extra inputs are not permitted, field: 'stream_options.x'; "
        "Input should be a valid integer, field: 'n'; "
        "Input should be 'function', field: 'tools[0].type'"
    )
    assert error["param"] == "stream_options.x"


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b'{"model": NaN}', b"[" * 100_000])
def test_no_json(rest: Rest, body: bytes) -> None:
    """A body that is no JSON is a 400."""
    response = rest.http.post(PATH, content=body, headers=JSON)
    assert response.status_code == 400
    error = error_of(response)
    assert error["message"].startswith("The body is not valid JSON")
    assert (error["type"], error["code"], error["param"]) == (BAD, BAD, None)


@pytest.mark.parametrize("body", [b"[]", b"null", b'"text"', b"1", b"true"])
def test_no_object(rest: Rest, body: bytes) -> None:
    """A body that is JSON but no object is a 400."""
    response = rest.http.post(PATH, content=body, headers=JSON)
    assert response.status_code == 400
    assert summary(error_of(response)) == (BAD, BAD, "Input should be a valid dictionary", None)


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", None])
def test_other_content_type(rest: Rest, kind: str | None) -> None:
    """A body of another type than JSON is a 415."""
    headers = {"content-type": kind} if kind else {}
    response = rest.http.post(PATH, content=orjson.dumps(chat()), headers=headers)
    assert response.status_code == 415
    assert error_of(response)["type"] == BAD


def test_json_with_a_charset(rest: Rest) -> None:
    """Parameters of the content type do no harm."""
    headers = {"content-type": "application/json; charset=utf-8"}
    assert rest.post(chat(max_tokens=1), headers=headers).status_code == 200


def test_body_over_the_limit(rest: Rest) -> None:
    """A body over the limit is a 413, as soon as its length is declared."""
    connection = http.client.HTTPConnection(rest.http.base_url.host, rest.http.base_url.port)
    with contextlib.closing(connection):
        headers = {**JSON, "content-length": str((4 << 20) + 1)}
        connection.request("POST", PATH, headers=headers)
        response = connection.getresponse()
        assert response.status == 413
        error = orjson.loads(response.read())["error"]
    assert list(error) == ["object", "type", "code", "message", "param"]
    assert error["type"] == BAD


def test_unknown_path(rest: Rest) -> None:
    """An unknown path is a 404."""
    response = rest.http.post("/v1/responses", json=chat())
    assert response.status_code == 404
    error = error_of(response)
    assert (error["type"], error["code"]) == ("error", "NOT_FOUND")


def test_wrong_method(rest: Rest) -> None:
    """Another method than POST is a 405 that says so."""
    response = rest.http.get(PATH)
    assert response.status_code == 405
    assert response.headers["allow"] == "POST"
    error_of(response)


def test_unknown_model(rest: Rest) -> None:
    """An unknown model is a 404 in the vendor's words, in a chat and by its path."""
    for response in (
        rest.post(chat() | {"model": "gpt-4"}),
        rest.http.get("/v1/models/gpt-4"),
    ):
        assert response.status_code == 404
        assert summary(error_of(response)) == ("error", "NOT_FOUND", NO_MODEL, "model")


def test_failure_before_a_stream(rest: Rest) -> None:
    """A stream that cannot begin is refused with a status, not with an event."""
    for request, status in ((chat(n=0), 400), (chat() | {"model": "gpt-4"}, 404)):
        response = rest.post(request | {"stream": True})
        assert response.status_code == status
        error_of(response)


def test_deadline(rest: Rest) -> None:
    """A caller's deadline that passes is a 504 that is not worth another try."""
    response = rest.post(LONG, headers={**JSON, "grpc-timeout": "100m"})
    assert response.status_code == 504
    error = error_of(response)
    assert (error["type"], error["code"]) == ("error", "DEADLINE_EXCEEDED")
    assert response.headers["x-should-retry"] == "false"


def test_failure_in_a_stream(rest: Rest) -> None:
    """A stream that fails ends with an error event and no [DONE], and its body has no end."""
    options: Json = {"json": LONG | {"stream": True}, "headers": {"grpc-timeout": "1200m"}}
    lines: list[str] = []
    with rest.http.stream("POST", PATH, **options) as response:
        assert response.status_code == 200
        with pytest.raises(httpx.RemoteProtocolError):
            lines.extend(line for line in response.iter_lines() if line)
    *_, last = lines
    error = orjson.loads(last.removeprefix("data: "))["error"]
    assert list(error) == ["object", "type", "code", "message", "param"]
    assert (error["type"], error["code"], error["param"]) == ("error", "DEADLINE_EXCEEDED", None)
    assert "data: [DONE]" not in lines


def test_request_id(rest: Rest) -> None:
    """A caller's own id for a request comes back, on answers and on errors."""
    for request in (chat(max_tokens=1), chat(n=0)):
        response = rest.post(request, headers={**JSON, "x-request-id": "my-own"})
        assert response.headers["x-request-id"] == "my-own"


def test_grpc_invalid(rpc: Grpc) -> None:
    """Over gRPC, what is wrong is in the text, and field by field in the details."""
    code, message, details = rpc.failure(to_proto(chat(n=0, top_k=101)))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    info, bad = details
    assert isinstance(info, ErrorInfo)
    assert (info.domain, info.reason) == ("rapport.v1", "INVALID_REQUEST")
    assert isinstance(bad, BadRequest)
    expected = [f"{found.description}, field: '{found.field}'" for found in bad.field_violations]
    assert message == f"2 request validation errors: {'; '.join(expected)}"
    assert {found.field for found in bad.field_violations} == {"n", "top_k"}


def test_grpc_empty(rpc: Grpc) -> None:
    """The error of an empty request names the required fields."""
    _, message, _ = rpc.failure(CreateChatCompletionRequest())
    assert "Field required, field: 'model'" in message
    assert "field: 'messages'" in message


def test_grpc_unknown_model(rpc: Grpc) -> None:
    """An unknown model is NOT_FOUND, with a reason for programs."""
    code, message, (info,) = rpc.failure(to_proto(chat() | {"model": "gpt-4"}))
    assert (code, message) == (grpc.StatusCode.NOT_FOUND, NO_MODEL)
    assert (info.reason, dict(info.metadata)) == ("MODEL_NOT_FOUND", {"param": "model"})


def test_grpc_deadline(rpc: Grpc) -> None:
    """A deadline that passes ends the call."""
    code, _, _ = rpc.failure(to_proto(LONG), timeout=0.1)
    assert code is grpc.StatusCode.DEADLINE_EXCEEDED


@pytest.mark.parametrize(
    "field", ["temperature", "top_p", "min_p", "presence_penalty", "mirostat_target"]
)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_grpc_values_that_json_has_not(rpc: Grpc, field: str, value: float) -> None:
    """Numbers that are infinite or none at all are refused."""
    request = to_proto(chat())
    setattr(request, field, value)
    _, message, _ = rpc.failure(request)
    assert message == f"Input should be a finite number, field: '{field}'"


@pytest.mark.parametrize("streaming", [True, False])
def test_grpc_stream_flag(rpc: Grpc, streaming: bool) -> None:
    """Over gRPC `stream` may repeat what the RPC says, and not contradict it."""
    request = to_proto(chat(stream=streaming, max_tokens=1))
    if not streaming:
        assert rpc.stub.CreateChatCompletion(request, timeout=60).choices
    else:
        _, message, _ = rpc.failure(request)
        expected = "Input should be False, or unset, for the RPC called, field: 'stream'"
        assert message == expected
