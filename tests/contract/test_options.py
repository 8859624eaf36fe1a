"""What the server's options make of the contract, with one server that has them all set."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import grpc
import httpx
import orjson
import pytest

from bench.server import rapport
from tests.contract.callers import JSON, PATH, Grpc, Json, Rest, chat, content, to_proto
from tests.contract.streams import join_stream
from tests.plain_http import NO_CERTIFICATES

KEY = {"authorization": "Bearer right"}
OPTIONS = {
    "RAPPORT_API_KEYS": "right,other",
    "RAPPORT_STOP_IN_OUTPUT": "exclude",
    "RAPPORT_DEFAULT_MAX_TOKENS": "5",
    "RAPPORT_UNKNOWN_FIELDS": "ignore",
    "RAPPORT_MAX_BODY_BYTES": "100000",
    "RAPPORT_SLOTS": "1",
    "RAPPORT_MAX_WAITING": "1",
}
WRONG_KEY = "The API key you provided is invalid."
NO_KEY = "You did not provide an API key: the Authorization header should be 'Bearer KEY'."


@pytest.fixture(scope="module")
def callers(small_folder: Path) -> Iterator[tuple[Rest, Grpc]]:
    """A server with other options than the defaults; REST callers have a key."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in OPTIONS.items():
            patch.setenv(name, value)
        with (
            rapport(model_folder=small_folder) as (_, target),
            httpx.Client(
                base_url=str(target.rest),
                headers=KEY,
                timeout=60,
                trust_env=False,
                verify=NO_CERTIFICATES,
            ) as http,
            grpc.insecure_channel(str(target.grpc)) as channel,
        ):
            yield Rest(http), Grpc(channel)


@pytest.fixture
def rest(callers: tuple[Rest, Grpc]) -> Rest:
    return callers[0]


@pytest.fixture
def rpc(callers: tuple[Rest, Grpc]) -> Grpc:
    return callers[1]


def error_of(response: httpx.Response) -> Json:
    error: Json = orjson.loads(response.content)["error"]
    assert list(error) == ["object", "type", "code", "message", "param"]
    return error


def test_stop_text_may_be_excluded(rest: Rest) -> None:
    """With stop_in_output = exclude, texts end before the stop text, in streams too."""
    text = content(rest.whole(chat(max_tokens=12)))
    for stop in (text[5:7], text[3:10]):
        body = chat(max_tokens=12, stop=stop)
        expected = text[: text.index(stop)]
        assert content(rest.whole(body)) == expected
        assert content(join_stream(rest.pieces(body))) == expected


@pytest.mark.parametrize("fields", [{}, {"max_tokens": None}], ids=str)
def test_default_max_tokens(rest: Rest, fields: Json) -> None:
    """Without max_tokens, the server's default_max_tokens holds."""
    body = {key: value for key, value in chat().items() if key != "max_tokens"}
    assert rest.whole(body | fields)["usage"]["completion_tokens"] == 5


def test_unknown_fields_may_be_ignored(rest: Rest) -> None:
    """With unknown_fields = ignore, unknown keys are dropped at every level."""
    message = chat()["messages"][0] | {"mood": "good"}
    assert content(rest.whole(chat(surprise=1, messages=[message]))) == content(rest.whole(chat()))


@pytest.mark.parametrize(
    ("header", "text"),
    [("", NO_KEY), ("right", NO_KEY), ("Bearer wrong", WRONG_KEY), ("Basic right", WRONG_KEY)],
)
@pytest.mark.parametrize("streaming", [False, True])
def test_no_key(rest: Rest, header: str, text: str, streaming: bool) -> None:
    """Without one of the keys, any request is a 401 that asks for one."""
    headers = {**JSON, "authorization": header}
    response = rest.post(chat(stream=streaming), headers=headers)
    assert response.status_code == 401
    assert response.headers["www-authenticate"] == "Bearer"
    error = error_of(response)
    assert (error["type"], error["code"], error["message"]) == ("error", "UNAUTHORIZED", text)


def test_no_key_over_grpc(rpc: Grpc) -> None:
    """Over gRPC the same is UNAUTHENTICATED, with a reason; a key in the metadata lets in."""
    code, message, (info,) = rpc.failure(to_proto(chat()))
    assert (code, message) == (grpc.StatusCode.UNAUTHENTICATED, NO_KEY)
    assert info.reason == "UNAUTHENTICATED"
    metadata = (("authorization", "Bearer other"),)
    assert rpc.stub.CreateChatCompletion(to_proto(chat()), timeout=60, metadata=metadata).choices


def test_body_over_the_limit(rest: Rest) -> None:
    """A body over max_body_bytes is a 413."""
    response = rest.post(chat("word " * 30_000))
    assert response.status_code == 413
    assert error_of(response)["type"] == "invalid_request_error"


def test_full_queue(rest: Rest) -> None:
    """When all slots and places in line are taken, the next request is a 429 to be retried."""
    long = chat(max_tokens=4000, ignore_eos=True, stream=True)
    with rest.http.stream("POST", PATH, json=long) as running, ThreadPoolExecutor(4) as pool:
        lines = running.iter_lines()  # kept, for without it the response is closed
        next(lines)
        done = as_completed([pool.submit(rest.post, chat(max_tokens=1)) for _ in range(4)])
        refused = [next(done).result() for _ in range(3)]
        running.close()
        assert next(done).result().status_code == 200
    for response in refused:
        assert response.status_code == 429
        error = error_of(response)
        assert (error["type"], error["code"]) == ("error", "RESOURCE_EXHAUSTED")
        assert int(response.headers["retry-after"]) >= 1
        assert int(response.headers["retry-after-ms"]) >= 1
