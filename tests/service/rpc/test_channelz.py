"""gRPC's own look at connections and calls."""

from __future__ import annotations

import asyncio
import itertools
from contextlib import suppress
from typing import Any

import grpc
import pytest
from grpc_channelz.v1 import channelz_pb2
from grpc_channelz.v1.channelz_pb2 import GetServersRequest, GetServersResponse
from grpc_channelz.v1.channelz_pb2_grpc import ChannelzStub

from rapport.common.settings import load
from rapport.service.config import ServiceSettings
from rapport.v1.model_pb2 import ListModelsRequest
from rapport.v1.model_pb2_grpc import ModelServiceStub
from tests.service.rpc.test_reflection import grpcurl

NAME = "grpc.channelz.v1.Channelz"
METHODS = sorted(channelz_pb2.DESCRIPTOR.services_by_name["Channelz"].methods_by_name)
MAX_ANSWER_BYTES = 1 << 20


async def servers(channel: grpc.aio.Channel, key: str = "") -> GetServersResponse:
    stub: Any = ChannelzStub(channel)  # its types know no asyncio
    metadata = (("authorization", f"Bearer {key}"),) if key else ()
    found: GetServersResponse = await stub.GetServers(GetServersRequest(), metadata=metadata)
    return found


async def calls_succeeded(channel: grpc.aio.Channel) -> dict[int, int]:
    """Of the servers that listen, by their ids."""
    found = (await servers(channel)).server
    return {each.ref.server_id: each.data.calls_succeeded for each in found if each.listen_socket}


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
        """The server is listed with its socket and its calls.

        So are the process's other servers, in any order. Of those none is called.
        """
        before = await calls_succeeded(channel)
        for _ in range(3):
            await ModelServiceStub(channel).ListModels(ListModelsRequest())
        async with asyncio.timeout(10):
            for looks in itertools.count(1):
                now = await calls_succeeded(channel)
                # A look is a call, too, and may not be counted before the next.
                if any(now[each] - before.get(each, 0) >= 3 + looks - 1 for each in now):
                    break

    async def test_grpcurl(self, address: str) -> None:
        """It is found by reflection."""
        assert NAME in (await grpcurl(address, "list")).split()
        assert "calls_started" in (await grpcurl(address, f"{NAME}/GetServers"))


class TestKeys:
    @pytest.fixture
    def settings(self, admin_settings: ServiceSettings) -> ServiceSettings:
        return admin_settings.model_copy(update={"channelz": True})

    async def test_a_key_is_needed(self, channel: grpc.aio.Channel) -> None:
        """Callers see nothing of each other; an administrator sees all."""
        for key, code in (
            ("", grpc.StatusCode.UNAUTHENTICATED),
            ("plain", grpc.StatusCode.PERMISSION_DENIED),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await servers(channel, key)
            assert raised.value.code() is code
        assert (await servers(channel, "admin")).server


class TestHostile:
    @pytest.fixture
    def settings(self) -> ServiceSettings:
        return load(ServiceSettings, ["--grpc-port", "0", "--channelz"])

    @pytest.mark.parametrize("method", METHODS)
    async def test_any_ids(
        self, channel: grpc.aio.Channel, method: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Ids of nothing are not found or answered with little; junk is the caller's mistake."""
        call = channel.unary_unary(f"/{NAME}/{method}")
        for number in (b"\x00", b"\x01", b"\xff" * 9 + b"\x01", b"\xff" * 8 + b"\x7f"):
            with suppress(grpc.aio.AioRpcError):
                answer = await call(b"\x08" + number + b"\x10" + number + b"\x18" + number)
                assert len(answer) < MAX_ANSWER_BYTES
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await call(b"\xff\xff")
        assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "Traceback" not in caplog.text
