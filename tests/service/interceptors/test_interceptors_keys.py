"""Keys of a file and limits, as gRPC callers meet them."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.rpc.error_details_pb2 import ErrorInfo, QuotaFailure, RetryInfo

from rapport.common.settings import load
from rapport.service.config import ServiceSettings
from rapport.service.engine.errors import StepFailedError
from rapport.service.keys.key_file import KeyFileError
from rapport.service.keys.key_store import CHECK_INTERVAL_S, hash_key
from rapport.service.lifecycle import Lifecycle
from rapport.service.server import build_server
from rapport.v1.chat_pb2_grpc import ChatServiceStub
from rapport.v1.model_pb2 import GetModelRequest, ListModelsRequest
from rapport.v1.model_pb2_grpc import ModelServiceStub
from rapport.v1.tokenize_pb2 import TokenizeRequest
from tests.contract.callers import unpacked
from tests.service.fakes import ScriptedEngine, ends, says
from tests.service.requests import MODEL, chat

if TYPE_CHECKING:
    from rapport.v1.chat_pb2_grpc import ChatServiceAsyncStub
    from rapport.v1.model_pb2_grpc import ModelServiceAsyncStub

LIST = ListModelsRequest()
KEYS = {
    "free": "",
    "slow": "requests_per_minute = 2",
    "narrow": "concurrent = 2",
    "tokens": "prompt_tokens_per_minute = 4\ngenerated_tokens_per_minute = 10",
    "crowd": "user_requests_per_minute = 1",
    "other": 'models = ["other"]\nrequests_per_minute = 1',
    "ours": f'models = ["{MODEL}"]',
    "gone": "disabled = true",
}


def text_of(keys: dict[str, str]) -> str:
    tables = (f'[{key}]\nhash = "{hash_key(key.encode())}"\n{rest}\n' for key, rest in keys.items())
    return "".join(tables)


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "keys.toml"
    path.write_text(text_of(KEYS))
    path.chmod(0o600)
    return path


@pytest.fixture
def settings(key_file: Path) -> ServiceSettings:
    flags = ["--grpc-port", "0", "--api-keys", "given", "--user-concurrent", "1"]
    return load(ServiceSettings, [*flags, "--api-keys-file", str(key_file)])


@pytest.fixture
def stub(channel: grpc.aio.Channel) -> ChatServiceAsyncStub:
    return ChatServiceStub(channel)


@pytest.fixture
def models(channel: grpc.aio.Channel) -> ModelServiceAsyncStub:
    return ModelServiceStub(channel)


def shown(key: str) -> dict[str, Any]:
    return {"metadata": (("authorization", f"Bearer {key}"),)}


async def refusal(call: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call
    return raised.value


async def status(call: Any) -> int:
    """The number of the status that a call ends with; 0 is OK."""
    with suppress(grpc.aio.AioRpcError):
        await call
    number: int = (await call.code()).value[0]
    return number


def rates(metadata: Any) -> dict[str, str]:
    return {name: value for name, value in metadata if name.startswith("x-ratelimit-")}


class TestKeys:
    @pytest.mark.usefixtures("engine")
    @pytest.mark.parametrize("key", ["free", "given"])
    async def test_of_file_and_settings(self, models: ModelServiceAsyncStub, key: str) -> None:
        """Keys of both places let in."""
        await models.ListModels(LIST, **shown(key))

    @pytest.mark.usefixtures("engine")
    @pytest.mark.parametrize("key", ["gone", "unknown", hash_key(b"free")])
    async def test_others(self, models: ModelServiceAsyncStub, key: str) -> None:
        """A key that is disabled or unknown does not, nor does a hash."""
        error = await refusal(models.ListModels(LIST, **shown(key)))
        assert error.code() is grpc.StatusCode.UNAUTHENTICATED
        assert rates(error.trailing_metadata()) == {}

    @pytest.mark.usefixtures("engine")
    async def test_change_while_serving(
        self, models: ModelServiceAsyncStub, key_file: Path
    ) -> None:
        """A key that is added to the file lets in soon, without a restart."""
        new = shown("new")
        await refusal(models.ListModels(LIST, **new))
        key_file.write_text(text_of({"new": ""}))  # noqa: ASYNC240 - a few bytes
        await asyncio.sleep(CHECK_INTERVAL_S)
        await models.ListModels(LIST, **new)
        await refusal(models.ListModels(LIST, **shown("free")))


class TestModels:
    async def test_not_for_the_key(
        self, stub: ChatServiceAsyncStub, models: ModelServiceAsyncStub, engine: ScriptedEngine
    ) -> None:
        """A model that the key is not for is forbidden by any of its names, before any work."""
        calls = [
            stub.CreateChatCompletion(chat(), **shown("other")),
            stub.CreateChatCompletion(chat(model=f"accounts/a/models/{MODEL}"), **shown("other")),
            stub.StreamChatCompletion(chat(), **shown("other")).read(),
            stub.Tokenize(TokenizeRequest(model=MODEL, text="x"), **shown("other")),
            models.GetModel(GetModelRequest(model=MODEL), **shown("other")),
            stub.CreateChatCompletion(chat(model="nowhere"), **shown("ours")),
        ]
        for call in calls:
            error = await refusal(call)
            assert error.code() is grpc.StatusCode.PERMISSION_DENIED
            (info,) = unpacked(error)
            assert (info.reason, info.metadata["param"]) == ("MODEL_FORBIDDEN", "model")
        assert engine.requests == []

    @pytest.mark.usefixtures("engine")
    async def test_for_the_key_and_not_there(self, stub: ChatServiceAsyncStub) -> None:
        """A model that the key is for may still not be served; no refusal before was counted."""
        error = await refusal(stub.CreateChatCompletion(chat(model="other"), **shown("other")))
        assert error.code() is grpc.StatusCode.NOT_FOUND

    @pytest.mark.usefixtures("engine")
    async def test_only_those_for_the_key_are_listed(self, models: ModelServiceAsyncStub) -> None:
        """The list has what the key may use."""
        listed = {
            key: [model.id for model in (await models.ListModels(LIST, **shown(key))).data]
            for key in ("free", "given", "ours", "other")
        }
        assert listed == {"free": [MODEL], "given": [MODEL], "ours": [MODEL], "other": []}

    @pytest.mark.usefixtures("engine")
    async def test_a_model_is_still_required(self, stub: ChatServiceAsyncStub) -> None:
        """A request without a model is told so, whatever the key is for."""
        error = await refusal(stub.CreateChatCompletion(chat(model=""), **shown("ours")))
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT


class TestRates:
    async def test_refused_before_any_work(
        self, stub: ChatServiceAsyncStub, engine: ScriptedEngine
    ) -> None:
        """Past the limit a request is refused with whose limit, when to return, and headers."""
        engine.script = [ends(0)]
        left = []
        for _ in range(2):
            call = stub.CreateChatCompletion(chat(), **shown("slow"))
            left.append(rates(await call.initial_metadata())["x-ratelimit-remaining-requests"])
            await call
        assert left == ["1", "0"]
        error = await refusal(stub.StreamChatCompletion(chat(), **shown("slow")).read())
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        info, quota, retry = unpacked(error)
        assert isinstance(info, ErrorInfo)
        assert info.reason == "RATE_LIMITED"
        assert isinstance(quota, QuotaFailure)
        assert quota.violations[0].subject == f"key:{hash_key(b'slow')[:12]}"
        assert isinstance(retry, RetryInfo)
        assert 0 < retry.retry_delay.ToMilliseconds() <= 30_000
        assert rates(error.trailing_metadata()) == {
            "x-ratelimit-limit-requests": "2",
            "x-ratelimit-remaining-requests": "0",
            "x-ratelimit-over-limit": "yes",
        }
        assert len(engine.requests) == 2

    async def test_models_are_free(
        self, stub: ChatServiceAsyncStub, models: ModelServiceAsyncStub, engine: ScriptedEngine
    ) -> None:
        """To list models costs no request; to tokenize does."""
        engine.script = [ends(0)]
        for _ in range(5):
            await models.ListModels(LIST, **shown("slow"))
        for _ in range(2):
            await refusal(stub.Tokenize(TokenizeRequest(model="x"), **shown("slow")))
        error = await refusal(stub.Tokenize(TokenizeRequest(model="x"), **shown("slow")))
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED

    async def test_tokens(self, stub: ChatServiceAsyncStub, engine: ScriptedEngine) -> None:
        """A stream's headers tell of its prompt; what it generates counts for the next."""
        engine.script = [says(0, "A", tokens=10), ends(0)]
        call = stub.StreamChatCompletion(chat("one two three"), **shown("tokens"))
        told = rates(await call.initial_metadata())
        assert told["x-ratelimit-limit-tokens-prompt"] == "4"
        assert told["x-ratelimit-remaining-tokens-prompt"] == "1"
        assert [piece async for piece in call]
        error = await refusal(stub.CreateChatCompletion(chat(), **shown("tokens")))
        assert error.details() == (
            "The limit of this key is reached: 10 generated tokens per minute"
        )
        assert rates(error.trailing_metadata())["x-ratelimit-remaining-tokens-generated"] == "0"

    async def test_tokens_of_a_prompt_that_waits(
        self, stub: ChatServiceAsyncStub, engine: ScriptedEngine
    ) -> None:
        """A prompt's tokens count as soon as the engine is asked, before anything is answered."""
        call = stub.CreateChatCompletion(chat("1 2 3 4"), **shown("tokens"))
        await asyncio.wait_for(engine.asked.wait(), 5)
        error = await refusal(stub.CreateChatCompletion(chat(), **shown("tokens")))
        assert error.details() == "The limit of this key is reached: 4 prompt tokens per minute"
        call.cancel()

    async def test_keys_do_not_share(
        self, stub: ChatServiceAsyncStub, engine: ScriptedEngine
    ) -> None:
        """What one key has used up is there for another, which hears of no limit if it has none."""
        engine.script = [ends(0)]
        for _ in range(2):
            await stub.CreateChatCompletion(chat(), **shown("slow"))
        call = stub.CreateChatCompletion(chat(), **shown("free"))
        assert rates(await call.initial_metadata()) == {}

    async def test_users(self, stub: ChatServiceAsyncStub, engine: ScriptedEngine) -> None:
        """Users of a key are limited each, by a name that is not theirs."""
        engine.script = [ends(0)]
        await stub.CreateChatCompletion(chat(user="ann@example.com"), **shown("crowd"))
        await stub.CreateChatCompletion(chat(user="bob@example.com"), **shown("crowd"))
        error = await refusal(
            stub.CreateChatCompletion(chat(user="ann@example.com"), **shown("crowd"))
        )
        quota = next(each for each in unpacked(error) if isinstance(each, QuotaFailure))
        assert quota.violations[0].subject.startswith("user:")
        assert "ann" not in str(error)


class TestConcurrency:
    async def test_race_for_the_last_place(
        self, stub: ChatServiceAsyncStub, engine: ScriptedEngine
    ) -> None:
        """Of many requests at the same time exactly as many run as may."""
        engine.script = [says(0, "A")]
        calls = [stub.StreamChatCompletion(chat(), **shown("narrow")) for _ in range(20)]
        begun = await asyncio.gather(*(call.read() for call in calls), return_exceptions=True)
        refused = [each for each in begun if isinstance(each, grpc.aio.AioRpcError)]
        assert len(refused) == 18
        assert all("2 requests at once" in str(error.details()) for error in refused)
        assert len(engine.requests) == 2
        for call in calls:
            call.cancel()

    @pytest.mark.parametrize("ending", ["cancel", "deadline", "failure", "invalid"])
    async def test_places_are_free_again(
        self, stub: ChatServiceAsyncStub, engine: ScriptedEngine, ending: str
    ) -> None:
        """However requests end, their places are free afterwards."""
        for _ in range(6):
            engine.script = [says(0, "A")]
            engine.error = StepFailedError("boom") if ending == "failure" else None
            timeout = 0.2 if ending == "deadline" else None
            request = chat(temperature=9) if ending == "invalid" else chat()
            call = stub.StreamChatCompletion(request, timeout=timeout, **shown("narrow"))
            with suppress(grpc.aio.AioRpcError, asyncio.CancelledError):
                await call.read()
                if ending == "cancel":
                    call.cancel()
                while await call.read() is not grpc.aio.EOF:
                    pass
        engine.script, engine.error = [ends(0)], None
        # The server hears of a caller's going a little later than the caller.
        async with asyncio.timeout(5):
            while await status(stub.CreateChatCompletion(chat(), **shown("narrow"))):  # noqa: ASYNC110 - seen from outside
                await asyncio.sleep(0.01)

    async def test_limit_by_default(
        self, stub: ChatServiceAsyncStub, engine: ScriptedEngine
    ) -> None:
        """The settings' limits hold for their keys, and for those of the file that set none."""
        engine.script = [says(0, "A")]
        for key in ("given", "free"):
            call = stub.StreamChatCompletion(chat(user="ann"), **shown(key))
            await call.read()
            error = await refusal(stub.CreateChatCompletion(chat(user="ann"), **shown(key)))
            assert "1 requests at once" in str(error.details())
            call.cancel()


class TestOpen:
    @pytest.fixture
    def settings(self) -> ServiceSettings:
        return load(ServiceSettings, ["--grpc-port", "0", "--requests-per-minute", "1"])

    async def test_limits_without_keys(
        self, stub: ChatServiceAsyncStub, engine: ScriptedEngine
    ) -> None:
        """Where no key is asked for, all callers share the limits by default."""
        engine.script = [ends(0)]
        await stub.CreateChatCompletion(chat())
        error = await refusal(stub.CreateChatCompletion(chat()))
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_broken_file_at_the_start(tmp_path: Path, lifecycle: Lifecycle) -> None:
    """A service whose file of keys is missing does not start."""
    missing = str(tmp_path / "missing.toml")
    with pytest.raises(KeyFileError, match="No such file"):
        build_server(load(ServiceSettings, ["--api-keys-file", missing]), lifecycle)
