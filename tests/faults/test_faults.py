"""Faults in the real processes with the real model: the right status, and life goes on."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import grpc
import httpx
import pytest
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo

from tests.contract.callers import Json, chat, content, to_proto
from tests.faults.conftest import Serve, Serving

# One fault for each caller at each point. Calls of a point are counted: those of requests that
# fail elsewhere count, too.
ONE_BY_ONE = (
    "prefill:raise@1,prefill:oom@2,decode:raise@1,decode:oom@2,"
    "text:raise@3,text:oom@4,copy:raise@1,copy:oom@2,read:oom"
)


def failed_rpc(serving: Serving, request: Json) -> None:
    code, message, details = serving.rpc.failure(to_proto(request))
    (info,) = (detail for detail in details if isinstance(detail, ErrorInfo))
    assert (code, info.reason) == (grpc.StatusCode.INTERNAL, "GENERATION_FAILED")
    assert message == "The model failed to generate"


def starved_rest(serving: Serving, request: Json) -> None:
    response = serving.rest.post(request)
    assert response.status_code == httpx.codes.TOO_MANY_REQUESTS
    assert int(response.headers["retry-after-ms"]) > 0
    assert response.json()["error"]["message"] == "there is no memory left for the request"


def test_a_fault_is_told_and_the_next_request_is_answered(serve: Serve) -> None:
    """The runtime fails or has no memory, in prefill, in decode, in a copy, in a token's text."""
    with serve(ONE_BY_ONE) as serving:
        for n in (1, 1, 1, 2):
            failed_rpc(serving, chat(n=n))
            starved_rest(serving, chat(n=n))
        for caller in (serving.rest, serving.rpc):
            assert len(caller.whole(chat(n=2))["choices"]) == 2
            assert caller.pieces(chat())
    assert serving.account() == (12, 4, 0, 8)


def test_without_memory_only_the_latest_fails(serve: Serve) -> None:
    """The others' answers are those that they would have been."""
    questions = [f"Tell me of the number {number}." for number in range(4)]
    with serve("decode:delay=0.05,decode:oom@9", deterministic=True) as serving:
        with ThreadPoolExecutor() as threads:
            asked = [chat(question, max_tokens=16, ignore_eos=True) for question in questions]
            answers = list(threads.map(serving.rest.post, asked))
        codes = [answer.status_code for answer in answers]
        assert sorted(codes) == [200, 200, 200, 429]
        for request, answer in zip(asked, answers, strict=True):
            if answer.status_code == httpx.codes.OK:
                assert content(answer.json()) == content(serving.rpc.whole(request))
    assert serving.account() == (7, 6, 0, 1)


def read_into(received: bytearray, response: httpx.Response) -> None:
    for data in response.iter_raw():
        received += data


def test_a_stream_that_fails_midway_says_so(serve: Serve) -> None:
    """Over REST what came stays, then there is an error and no [DONE]; over gRPC a status."""
    with serve("decode:raise@3,decode:oom@6") as serving:
        request = chat(max_tokens=20, stream=True)
        with serving.rest.http.stream("POST", "/v1/chat/completions", json=request) as response:
            received = bytearray()
            with pytest.raises(httpx.RemoteProtocolError):
                read_into(received, response)
        assert received.count(b"data: ") >= 2
        assert b'"message":"The model failed to generate"' in received
        assert b"[DONE]" not in received
        stream = serving.rpc.stub.StreamChatCompletion(to_proto(chat(max_tokens=20)))
        with pytest.raises(grpc.RpcError) as raised:
            list(stream)
        assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert serving.rest.whole(chat())
    assert serving.account() == (3, 1, 0, 2)


def test_a_dead_engine_fails_what_runs(serve: Serve) -> None:
    """All that run or wait hear of it at once, in words that tell them to try again."""
    with serve("decode:die@9", slots=2) as serving:
        request = chat(max_tokens=40, ignore_eos=True)
        with ThreadPoolExecutor() as threads:
            over_rest = [threads.submit(serving.rest.post, request) for _ in range(4)]
            over_rpc = [threads.submit(serving.rpc.failure, to_proto(request)) for _ in range(4)]
            for answer in over_rest:
                assert answer.result(20).status_code == httpx.codes.SERVICE_UNAVAILABLE
                assert int(answer.result().headers["retry-after-ms"]) > 0
            for failure in over_rpc:
                code, _, details = failure.result(20)
                assert code is grpc.StatusCode.UNAVAILABLE
                assert any(isinstance(detail, RetryInfo) for detail in details)


@pytest.mark.parametrize("point", ["prefill", "decode"])
def test_a_hang_keeps_no_caller_beyond_its_deadline(serve: Serve, point: str) -> None:
    """The step never ends, the requests do."""
    with serve(f"{point}:hang@1") as serving:
        headers = {"content-type": "application/json", "grpc-timeout": "1S"}
        assert serving.rest.post(chat(), headers=headers).status_code == 504
        code, _, _ = serving.rpc.failure(to_proto(chat()), timeout=1)
        assert code is grpc.StatusCode.DEADLINE_EXCEEDED
        kill_service(serving)


def kill_service(serving: Serving) -> None:
    """Nothing else ends a thread that hangs."""
    for process in serving.target.parts()["service"]:
        process.kill()
