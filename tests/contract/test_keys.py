"""Keys of a file: their models, their limits, and how clients take it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import httpx
import openai
import orjson
import pytest

from bench.server import Target, rapport
from rapport.cli import keys
from tests.conftest import MODEL
from tests.contract.callers import Json, Rest, chat, events
from tests.plain_http import NO_CERTIFICATES

# Two tokens come back each second: few while a test runs.
TOKENS = 120
KEYS = {
    "elsewhere": ["--models", "other"],
    "two": ["--requests-per-minute", "2"],
    "talkative": ["--generated-tokens-per-minute", "60"],
    "all": [
        *("--requests-per-minute", "50", "--prompt-tokens-per-minute", str(TOKENS)),
        *("--cache-adjusted-prompt-tokens-per-minute", str(TOKENS)),
        *("--generated-tokens-per-minute", str(TOKENS)),
    ],
}


@pytest.fixture(scope="module")
def served(
    small_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Target, dict[str, str]]]:
    """A server with a file of keys, and the keys by their names."""
    file = tmp_path_factory.mktemp("keys") / "keys.toml"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAPPORT_API_KEYS_FILE", str(file))
        keys = {name: added(name, *flags) for name, flags in KEYS.items()}
        with rapport(model_folder=small_folder) as (_, target):
            yield target, keys


def added(name: str, *flags: str) -> str:
    """A key that is made as an operator makes one."""
    options = keys.parser().parse_args(["add", name, *flags])
    (key,) = options.command(keys.configured_file(), options)
    return str(key)


@pytest.fixture
def key(request: pytest.FixtureRequest, served: tuple[Target, dict[str, str]]) -> str:
    return served[1][request.param]


@pytest.fixture
def rest(served: tuple[Target, dict[str, str]], key: str) -> Iterator[Rest]:
    headers = {"authorization": f"Bearer {key}"}
    url = str(served[0].rest)
    with httpx.Client(
        base_url=url, headers=headers, timeout=60, trust_env=False, verify=NO_CERTIFICATES
    ) as http:
        yield Rest(http)


@pytest.fixture
def client(served: tuple[Target, dict[str, str]], key: str) -> Iterator[openai.OpenAI]:
    url = f"{served[0].rest}/v1"
    with openai.OpenAI(base_url=url, api_key=key, max_retries=0) as client:
        yield client


def rates(response: httpx.Response) -> dict[str, str]:
    prefix = "x-ratelimit-"
    headers = response.headers.items()
    return {name.removeprefix(prefix): value for name, value in headers if name.startswith(prefix)}


def error_of(response: httpx.Response) -> Json:
    error: Json = orjson.loads(response.content)["error"]
    return error


@pytest.mark.parametrize("key", ["elsewhere"], indirect=True)
def test_model_that_the_key_lacks(rest: Rest, client: openai.OpenAI) -> None:
    """A model that is not for the key is a 403, and not in the list."""
    response = rest.post(chat())
    assert response.status_code == 403
    error = error_of(response)
    assert (error["type"], error["code"], error["param"]) == ("error", "FORBIDDEN", "model")
    assert rest.http.get(f"/v1/models/{MODEL}").status_code == 403
    assert list(client.models.list()) == []
    with pytest.raises(openai.PermissionDeniedError):
        client.chat.completions.create(**chat())


@pytest.mark.parametrize("key", ["two"], indirect=True)
def test_too_many_requests(rest: Rest) -> None:
    """The headers count down; past the limit, a 429 tells to the millisecond when to return."""
    for left in ("1", "0"):
        limits = {"limit-requests": "2", "remaining-requests": left, "over-limit": "no"}
        assert rates(rest.post(chat())) == limits
    for streaming in (False, True):
        response = rest.post(chat(stream=streaming))
        assert response.status_code == 429
        error = error_of(response)
        assert (error["type"], error["code"]) == ("error", "RESOURCE_EXHAUSTED")
        assert error["message"] == "The limit of this key is reached: 2 requests per minute"
        assert rates(response) == limits | {"over-limit": "yes"}
        wait = int(response.headers["retry-after-ms"])
        assert 0 < wait <= 30_000
        assert int(response.headers["retry-after"]) == math.ceil(wait / 1000)


@pytest.mark.parametrize("key", ["all"], indirect=True)
def test_headers(rest: Rest) -> None:
    """Answers tell of every limit, whole ones of all they used, streams of their prompt."""
    whole = rest.post(chat(max_tokens=3, ignore_eos=True))
    usage = orjson.loads(whole.content)["usage"]
    prompt = usage["prompt_tokens"]
    limits = rates(whole)
    assert TOKENS - prompt <= int(limits["remaining-tokens-prompt"]) < TOKENS
    assert TOKENS - 3 <= int(limits["remaining-tokens-generated"]) < TOKENS
    assert {name for name in limits if name.startswith("limit-")} == {
        *("limit-requests", "limit-tokens-prompt", "limit-tokens-generated"),
        "limit-tokens-cache-adjusted-prompt",
    }
    before = int(limits["remaining-tokens-cache-adjusted-prompt"])
    stream = rest.post(chat(max_tokens=3, stream=True))
    cached = events(stream.text)[-1]["usage"]["prompt_tokens_details"]["cached_tokens"]
    assert cached > 0
    after = int(rates(stream)["remaining-tokens-cache-adjusted-prompt"])
    # A little comes back in the meantime.
    assert after >= before - prompt + cached


def keep_asking(client: openai.OpenAI) -> NoReturn:
    while True:
        client.chat.completions.create(**chat())


@pytest.mark.parametrize("key", ["talkative"], indirect=True)
def test_openai_client_comes_back_in_time(client: openai.OpenAI) -> None:
    """The client knows the refusal, is given the time to retry, and is accepted then."""
    with pytest.raises(openai.RateLimitError) as raised:
        keep_asking(client)
    response = raised.value.response
    assert raised.value.code == "RESOURCE_EXHAUSTED"
    assert response.headers["x-ratelimit-over-limit"] == "yes"
    assert response.headers["x-ratelimit-remaining-tokens-generated"] == "0"
    assert 0 < int(response.headers["retry-after-ms"]) < 60_000
    again = client.with_options(max_retries=1).chat.completions
    assert again.create(**chat()).choices
