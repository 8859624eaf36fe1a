"""Limits of keys and users, as gRPC callers meet them."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

import grpc
import pytest
from google.rpc.error_details_pb2 import ErrorInfo, QuotaFailure, RetryInfo

from rapport.common.settings import load
from rapport.service.config import ServiceSettings
from rapport.service.engine.errors import StepFailedError
from rapport.service.keys.key_store import hash_key
from rapport.v1.model_pb2 import ListModelsRequest
from rapport.v1.tokenize_pb2 import TokenizeRequest
from tests.contract.callers import unpacked
from tests.service.fakes import ScriptedEngine, ends, says
from tests.service.interceptors.keyed import rates, refusal, shown, status
from tests.service.requests import chat

if TYPE_CHECKING:
    from rapport.v1.chat_pb2_grpc import ChatServiceAsyncStub
    from rapport.v1.model_pb2_grpc import ModelServiceAsyncStub

LIST = ListModelsRequest()


class TestRates:
    @pytest.fixture
    def settings(self, key_file_settings: ServiceSettings) -> ServiceSettings:
        return key_file_settings

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
        headers = rates(await call.initial_metadata())
        assert headers["x-ratelimit-limit-tokens-prompt"] == "4"
        assert headers["x-ratelimit-remaining-tokens-prompt"] == "1"
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
    @pytest.fixture
    def settings(self, key_file_settings: ServiceSettings) -> ServiceSettings:
        return key_file_settings

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
