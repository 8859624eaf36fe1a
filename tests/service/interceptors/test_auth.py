"""Keys, the models that they are for, and the names of users, as gRPC callers meet them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import pytest

from rapport.common.settings import load
from rapport.service.config import ServiceSettings
from rapport.service.interceptors.auth import hash_user
from rapport.service.keys.key_file import KeyFileError
from rapport.service.keys.key_store import CHECK_INTERVAL_S, hash_key
from rapport.service.lifecycle import Lifecycle
from rapport.service.server import Server
from rapport.v1.chat_pb2_grpc import ChatServiceStub
from rapport.v1.model_pb2 import GetModelRequest, ListModelsRequest
from rapport.v1.model_pb2_grpc import ModelServiceStub
from rapport.v1.tokenize_pb2 import TokenizeRequest
from tests.contract.callers import unpacked
from tests.service.fakes import ScriptedEngine, ends
from tests.service.interceptors.keyed import key_file_text, rates, refusal, shown
from tests.service.requests import MODEL, chat, health

if TYPE_CHECKING:
    from rapport.v1.chat_pb2_grpc import ChatServiceAsyncStub
    from rapport.v1.model_pb2_grpc import ModelServiceAsyncStub

LIST = ListModelsRequest()
CREATE = "/rapport.v1.ChatService/CreateChatCompletion"

MISSING = "You did not provide an API key: the Authorization header should be 'Bearer KEY'."
INVALID = "The API key you provided is invalid."


class TestKeysOfSettings:
    @pytest.fixture
    def settings(self, monkeypatch: pytest.MonkeyPatch) -> ServiceSettings:
        monkeypatch.setenv("RAPPORT_API_KEYS", "first,second")
        return load(ServiceSettings, ["--grpc-port", "0"])

    @pytest.mark.usefixtures("engine")
    @pytest.mark.parametrize("header", ["Bearer first", "bearer second"])
    async def test_good_key(self, channel: grpc.aio.Channel, header: str) -> None:
        """Any of the keys lets a caller in."""
        await ModelServiceStub(channel).ListModels(LIST, metadata=(("authorization", header),))

    @pytest.mark.usefixtures("engine")
    @pytest.mark.parametrize(
        ("header", "text"),
        [
            (None, MISSING),
            ("", MISSING),
            ("Bearer", MISSING),
            ("first", MISSING),
            ("Bearer third", INVALID),
            ("Basic first", INVALID),
        ],
    )
    async def test_bad_key(self, channel: grpc.aio.Channel, header: str | None, text: str) -> None:
        """No key is told from a wrong one, and so is a header without its scheme."""
        metadata = () if header is None else (("authorization", header),)
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await ModelServiceStub(channel).ListModels(LIST, metadata=metadata)
        assert raised.value.code() is grpc.StatusCode.UNAUTHENTICATED
        assert raised.value.details() == text

    @pytest.mark.usefixtures("engine")
    async def test_no_key_and_no_message(self, channel: grpc.aio.Channel) -> None:
        """Nothing is parsed of who has no key."""
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await channel.unary_unary("/rapport.v1.ChatService/CreateChatCompletion")(
                b"\x0a\xff\xff"
            )
        assert raised.value.code() is grpc.StatusCode.UNAUTHENTICATED

    async def test_the_key_is_part_of_the_tenant(
        self, channel: grpc.aio.Channel, engine: ScriptedEngine
    ) -> None:
        """Users of the same name are two tenants with two keys, and no tenant's name is a key."""
        engine.script = (ends(0),)
        for key in ("first", "second", "first"):
            metadata = (("authorization", f"Bearer {key}"),)
            await ChatServiceStub(channel).CreateChatCompletion(chat(user="ann"), metadata=metadata)
        one, other, again = [request.tenant for request in engine.requests]
        assert one == again != other
        assert "first" not in one.key

    async def test_stream_needs_key(
        self, channel: grpc.aio.Channel, engine: ScriptedEngine
    ) -> None:
        """A stream without a key ends before anything is generated."""
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await ChatServiceStub(channel).StreamChatCompletion(chat()).read()
        assert raised.value.code() is grpc.StatusCode.UNAUTHENTICATED
        assert engine.requests == []

    async def test_health_needs_no_key(self, channel: grpc.aio.Channel) -> None:
        """Probes have no key."""
        assert await health(channel)


class TestKeysOfFile:
    @pytest.fixture
    def settings(self, key_file_settings: ServiceSettings) -> ServiceSettings:
        return key_file_settings

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
        key_file.write_text(key_file_text({"new": ""}))  # noqa: ASYNC240 - a few bytes
        await asyncio.sleep(CHECK_INTERVAL_S)
        await models.ListModels(LIST, **new)
        await refusal(models.ListModels(LIST, **shown("free")))


class TestModels:
    @pytest.fixture
    def settings(self, key_file_settings: ServiceSettings) -> ServiceSettings:
        return key_file_settings

    async def test_not_for_the_key(
        self, stub: ChatServiceAsyncStub, models: ModelServiceAsyncStub, engine: ScriptedEngine
    ) -> None:
        """A model that the key is not for is forbidden by any of its names, before any work."""
        longer = f"accounts/a/models/{MODEL}"
        calls = [
            lambda: stub.CreateChatCompletion(chat(), **shown("other")),
            lambda: stub.CreateChatCompletion(chat(model=longer), **shown("other")),
            lambda: stub.StreamChatCompletion(chat(), **shown("other")).read(),
            lambda: stub.Tokenize(TokenizeRequest(model=MODEL, text="x"), **shown("other")),
            lambda: models.GetModel(GetModelRequest(model=MODEL), **shown("other")),
            lambda: stub.CreateChatCompletion(chat(model="nowhere"), **shown("ours")),
        ]
        for call in calls:
            error = await refusal(call())
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


async def test_broken_file_at_the_start(tmp_path: Path, lifecycle: Lifecycle) -> None:
    """A service whose file of keys is missing does not start."""
    missing = str(tmp_path / "missing.toml")
    with pytest.raises(KeyFileError, match="No such file"):
        Server(load(ServiceSettings, ["--api-keys-file", missing]), lifecycle)


def test_users_have_names_that_tell_nothing() -> None:
    """A user's name is the same with the same salt, and another for anybody else."""
    name = hash_user("ann@example.com", b"salt")
    assert name == hash_user("ann@example.com", b"salt")
    assert len({name, hash_user("bob", b"salt"), hash_user("ann@example.com", b"pepper")}) == 3
    assert name.isalnum()
    assert len(name) == 12


def test_any_text_is_a_user() -> None:
    """Users may be named in any script, with or without a salt."""
    assert hash_user("я\0", b"") != hash_user("я", b"")
