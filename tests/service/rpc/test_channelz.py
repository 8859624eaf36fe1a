"""gRPC's own look at connections and calls."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from grpc_channelz.v1.channelz_pb2 import GetServersRequest, GetServersResponse
from grpc_channelz.v1.channelz_pb2_grpc import ChannelzStub

from rapport.common.settings import load
from rapport.service.config import ServiceSettings
from rapport.v1.model_pb2 import ListModelsRequest
from rapport.v1.model_pb2_grpc import ModelServiceStub
from tests.service.rpc.test_reflection import grpcurl

NAME = "grpc.channelz.v1.Channelz"


async def servers(channel: grpc.aio.Channel, key: str = "") -> GetServersResponse:
    stub: Any = ChannelzStub(channel)  # its types know no asyncio
    metadata = (("authorization", f"Bearer {key}"),) if key else ()
    found: GetServersResponse = await stub.GetServers(GetServersRequest(), metadata=metadata)
    return found


async def test_off(channel: grpc.aio.Channel) -> None:
    """Unless it is asked for it is not there."""
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await servers(channel)
    assert raised.value.code() is grpc.StatusCode.UNIMPLEMENTED


class TestOn:
    @pytest.fixture
    def settings(self) -> ServiceSettings:
        return load(ServiceSettings, ["--grpc-port", "0", "--channelz"])

    @pytest.mark.usefixtures("engine")
    async def test_calls_are_counted(self, channel: grpc.aio.Channel) -> None:
        """The server is told of with its socket and its calls."""
        for _ in range(3):
            await ModelServiceStub(channel).ListModels(ListModelsRequest())
        *_, newest = (await servers(channel)).server
        assert newest.data.calls_succeeded == 3
        assert newest.listen_socket

    async def test_grpcurl(self, address: str) -> None:
        """It is found by reflection."""
        assert NAME in (await grpcurl(address, "list")).split()
        assert "calls_started" in (await grpcurl(address, f"{NAME}/GetServers"))


class TestKeys:
    @pytest.fixture
    def settings(self, monkeypatch: pytest.MonkeyPatch) -> ServiceSettings:
        monkeypatch.setenv("RAPPORT_API_KEYS", "sesame")
        return load(ServiceSettings, ["--grpc-port", "0", "--channelz"])

    async def test_a_key_is_needed(self, channel: grpc.aio.Channel) -> None:
        """Who may not call the service is told nothing of those who do."""
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await servers(channel)
        assert raised.value.code() is grpc.StatusCode.UNAUTHENTICATED
        assert (await servers(channel, "sesame")).server
