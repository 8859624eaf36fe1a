"""Asking the service for its health."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
from grpc_health.v1 import health_pb2

from rapport.gateway.errors import unavailable

TIMEOUT_S = 2.0


class HealthCheck:
    """Requests for the health that come at the same time share one call to the service.

    However many there are, the service is asked by one at a time.
    """

    def __init__(self) -> None:
        self._asking: asyncio.Task[str] | None = None

    async def check(self, channel: grpc.aio.Channel) -> None:
        """Asks the service behind the channel.

        Raises:
            ApiError: it does not serve.
        """
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(_failure(channel))
        # A caller that goes away must not end the call for the others.
        if failure := await asyncio.shield(self._asking):
            raise unavailable(failure)


async def _failure(channel: grpc.aio.Channel) -> str:
    """What is wrong with the service, or an empty text."""
    check: Any = channel.unary_unary(
        "/grpc.health.v1.Health/Check",
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
