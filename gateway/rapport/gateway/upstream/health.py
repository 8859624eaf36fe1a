"""Asking the service for its health."""

from __future__ import annotations

import asyncio
import math
import time
from typing import Any

import grpc
from grpc_health.v1 import health_pb2

from rapport.gateway.errors import unavailable

# A service that is flooded with requests may take some seconds.
TIMEOUT_S = 5.0
# For how long it serves after it said so, unless it says something else.
FRESH_S = 2.0
RETRY_S = 0.5
METHOD = "/grpc.health.v1.Health/"


class HealthCheck:
    """Requests for the health that come at the same time share one call to the service.

    However many there are, the service is asked by one at a time. While it is watched as well,
    which tells of each change at once, nobody waits if it served a moment ago: how busy it is
    says nothing of its health.
    """

    def __init__(self) -> None:
        self._asking: asyncio.Task[str] | None = None
        self._is_watched = False
        self._changes = 0
        self._served_at = -math.inf

    async def check(self, channel: grpc.aio.Channel) -> None:
        """Asks the service behind the channel.

        Raises:
            ApiError: it does not serve.
        """
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask(channel))
        if self._is_watched and time.monotonic() - self._served_at < FRESH_S:
            return
        # A caller that goes away must not end the call for the others.
        if failure := await asyncio.shield(self._asking):
            raise unavailable(failure)

    async def watch(self, channel: grpc.aio.Channel) -> None:
        """Learns of changes, until it is cancelled or the service tells of none."""
        watch: Any = channel.unary_stream(
            f"{METHOD}Watch",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        while True:
            try:
                async for _ in watch(health_pb2.HealthCheckRequest(), wait_for_ready=True):
                    self._is_watched, self._served_at = True, -math.inf
                    self._changes += 1
            except grpc.aio.AioRpcError as error:
                if error.code() is grpc.StatusCode.UNIMPLEMENTED:
                    return
            finally:
                self._is_watched = False
            await asyncio.sleep(RETRY_S)

    async def _ask(self, channel: grpc.aio.Channel) -> str:
        changes = self._changes
        failure = await _failure(channel)
        # An answer from before a change is not kept.
        if not failure and changes == self._changes:
            self._served_at = time.monotonic()
        return failure


async def _failure(channel: grpc.aio.Channel) -> str:
    """What is wrong with the service, or an empty text."""
    check: Any = channel.unary_unary(
        f"{METHOD}Check",
        request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
        response_deserializer=health_pb2.HealthCheckResponse.FromString,
    )
    try:
        reply = await check(health_pb2.HealthCheckRequest(), timeout=TIMEOUT_S)
    except grpc.aio.AioRpcError:
        return "The service does not answer"
    if reply.status != health_pb2.HealthCheckResponse.SERVING:
        return "The service is not serving"
    return ""
