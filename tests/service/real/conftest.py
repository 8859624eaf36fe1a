"""The real model, which takes seconds to load: once for all tests of a module."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import pytest
import pytest_asyncio

from rapport.common.settings import load
from rapport.service.config import ServiceSettings
from rapport.service.engine.engine import Engine
from rapport.service.lifecycle import Lifecycle
from rapport.v1.chat_pb2_grpc import ChatServiceStub
from tests.service.running import listening, loaded_engine

if TYPE_CHECKING:
    from rapport.v1.chat_pb2_grpc import ChatServiceAsyncStub

shared = partial(pytest_asyncio.fixture, scope="module", loop_scope="module")


@pytest.fixture(scope="module")
def model_folder(cpu_folder: Path) -> Path:
    return cpu_folder


@shared()
async def lifecycle() -> Lifecycle:
    return Lifecycle()


@shared()
async def real_engine(model_folder: Path, lifecycle: Lifecycle) -> AsyncIterator[Engine]:
    async with loaded_engine(model_folder, lifecycle) as engine:
        yield engine


@shared()
async def stub(real_engine: Engine, lifecycle: Lifecycle) -> AsyncIterator[ChatServiceAsyncStub]:
    del real_engine  # it is behind the channel
    async with (
        listening(load(ServiceSettings, ["--grpc-port", "0"]), lifecycle) as address,
        grpc.aio.insecure_channel(address) as channel,
    ):
        yield ChatServiceStub(channel)
