"""The gRPC service behind the gateway: its channel, and what it serves."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import grpc
import orjson
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError

from rapport.gateway.config import GatewaySettings
from rapport.gateway.dialects.dialect import Dialect
from rapport.gateway.errors import unavailable
from rapport.gateway.openapi.document import describe
from rapport.gateway.transcoding.routes import RouteTable, build_routes
from rapport.gateway.upstream.channel import Channels
from rapport.gateway.upstream.health import HealthCheck
from rapport.gateway.upstream.reflection import reflect

logger = logging.getLogger(__name__)

RETRY_S = 0.5
# How often certificates are checked, and how long calls that began with old ones may go on.
RENEW_S = 5.0
RETIRE_S = 3600.0

Follow = Callable[[grpc.aio.Channel], Coroutine[Any, Any, None]]
"""Watches a channel until it is cancelled."""


class DescriptorSetError(Exception):
    """The descriptor set cannot be used; the text says why."""


class Upstream:
    """A connection to the service. Learns its routes at each connect, as they may have changed."""

    def __init__(self, settings: GatewaySettings, follow: Follow, dialect: Dialect) -> None:
        """Reads the files that the settings name.

        Raises:
            DescriptorSetError: the descriptor set cannot be used.
            CertificateError: a certificate cannot be used.
        """
        self.target = settings.target
        self.channel: grpc.aio.Channel
        self._channels = Channels(settings)
        self.certificate = self._channels.certificate
        self._ignore_unknown = settings.unknown_fields == "ignore"
        self._key_needed = settings.asks_for_key
        self._table: RouteTable | None = None
        self._files = FileDescriptorSet()
        self._description = b""
        self._learned: bytes | None = None
        self._is_fixed = settings.descriptor_set is not None
        self._follow = follow
        self._dialect = dialect
        self._health = HealthCheck()
        self._watchers: list[asyncio.Task[None]] = []
        """The tasks of the current channel."""
        self._tasks: set[asyncio.Task[None]] = set()
        """All tasks that have not ended."""
        self._reported: set[str | None] = set()
        if settings.descriptor_set is not None:
            self._adopt(*_read_descriptor_set(settings.descriptor_set))

    @property
    def table(self) -> RouteTable:
        """The routes.

        Raises:
            ApiError: they are not known yet.
        """
        if self._table is None:
            raise unavailable("The service is not available yet")
        return self._table

    @property
    def description(self) -> bytes:
        """The OpenAPI document of the routes.

        Raises:
            ApiError: the routes are not known yet.
        """
        routes = self.table.routes
        if not self._description:
            closed = not self._ignore_unknown
            document = describe(
                routes, self._files, self._dialect, closed=closed, key_needed=self._key_needed
            )
            self._description = orjson.dumps(document)
        return self._description

    def start(self) -> None:
        """Connects in the background, in the running event loop."""
        self._connect()
        if self._channels.is_secure:
            self._keep(self._renew())

    async def close(self) -> None:
        """Closes the current channel and cancels its calls.

        Calls on channels with old certificates end with their requests.
        """
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.channel.close()

    async def check_health(self) -> None:
        """Asks the service for its health.

        Raises:
            ApiError: it does not serve.
        """
        _ = self.table
        await self._health.check(self.channel)

    def _connect(self) -> None:
        self.channel = self._channels.open()
        for watcher in self._watchers:
            watcher.cancel()
        following = (self._follow(self.channel), self._health.watch(self.channel))
        self._watchers = [self._keep(each) for each in following]
        if not self._is_fixed:
            self._watchers.append(self._keep(self._watch()))

    async def _renew(self) -> None:
        """Opens a new channel whenever the certificates have changed."""
        while True:
            await asyncio.sleep(RENEW_S)
            if self._channels.renew():
                old = self.channel
                self._connect()
                self._keep(old.close(RETIRE_S))

    def _keep(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _watch(self) -> None:
        """Learns the routes at each connect: the service may be of another version."""
        while True:
            await self._connected()
            if await self._learn():
                await self.channel.wait_for_state_change(grpc.ChannelConnectivity.READY)
            else:
                await asyncio.sleep(RETRY_S)

    async def _connected(self) -> None:
        state = self.channel.get_state(try_to_connect=True)
        while state is not grpc.ChannelConnectivity.READY:
            if self._channels.is_secure and state is grpc.ChannelConnectivity.TRANSIENT_FAILURE:
                await self._learn()  # fails, and logs why
            await self.channel.wait_for_state_change(state)
            state = self.channel.get_state(try_to_connect=True)

    async def _learn(self) -> bool:
        try:
            self._adopt(*await reflect(self.channel))
        except Exception as error:  # noqa: BLE001 - any error may be gone at the next try
            self._report(error)
            return False
        self._reported.clear()
        return True

    def _adopt(self, services: list[str], files: FileDescriptorSet) -> None:
        """Replaces the routes if they have changed."""
        learned = repr(services).encode() + files.SerializeToString(deterministic=True)
        if learned == self._learned:
            return
        table = build_routes(_descriptors(services, files), ignore_unknown=self._ignore_unknown)
        self._learned, self._table = learned, table
        self._files, self._description = files, b""
        logger.info("%s serves %d routes", self.target, len(table))

    def _report(self, error: Exception) -> None:
        """Logs an error once until the next success, not at each try."""
        text = error.details() if isinstance(error, grpc.aio.AioRpcError) else str(error)
        if text not in self._reported:
            self._reported.add(text)
            logger.warning("%s cannot be learned: %s", self.target, text or type(error).__name__)


def _descriptors(services: list[str], files: FileDescriptorSet) -> list[ServiceDescriptor]:
    """The services, in a new pool.

    Raises:
        DescriptorSetError: the files do not fit together.
    """
    pool, pending = DescriptorPool(), {file.name: file for file in files.file}

    def add(name: str) -> None:
        file = pending.pop(name, None)
        if file is not None:
            for dependency in file.dependency:
                add(dependency)
            pool.AddSerializedFile(file.SerializeToString())

    try:
        for file in files.file:
            add(file.name)
        return [pool.FindServiceByName(name) for name in services]
    except (TypeError, KeyError) as error:
        raise DescriptorSetError(f"the descriptors do not fit together: {error}") from error


def _read_descriptor_set(path: Path) -> tuple[list[str], FileDescriptorSet]:
    try:
        files = FileDescriptorSet.FromString(path.read_bytes())
    except (OSError, DecodeError) as error:
        raise DescriptorSetError(f"{path} is not a readable descriptor set: {error}") from error
    return sorted(name for file in files.file for name in _services(file)), files


def _services(file: FileDescriptorProto) -> list[str]:
    prefix = f"{file.package}." if file.package else ""
    return [prefix + service.name for service in file.service]
