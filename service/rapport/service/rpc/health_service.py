"""gRPC's health protocol: what probes ask, and what callers watch.

grpcio's own servicer writes to watchers under the lock that a change of status needs, so a caller
that does not read would keep the service from becoming ready and from shutting down.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

import grpc
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthServicer

from rapport.service.errors import NotReadyError
from rapport.service.interceptors import context as request_context
from rapport.service.interceptors.context import GrpcContext

protos: Any = health_pb2  # its types know no List

UNKNOWN = HealthCheckResponse.SERVICE_UNKNOWN


class HealthService(HealthServicer):
    """The status of each name. For the event loop alone.

    A change waits for nobody: it wakes those who watch, and each of them is sent the newest status
    once it has taken the one before.
    """

    def __init__(self, statuses: Mapping[str, int]) -> None:
        """Takes all names that there will be, with their first statuses."""
        self._statuses = dict(statuses)
        self._changed = asyncio.Event()
        self._closed = False

    def set(self, status: int, *names: str) -> None:
        """Changes the status of some names."""
        for name in names:
            self._statuses[name] = status
        self._wake()

    def close(self) -> None:
        """Ends all watches, those to come as well."""
        self._closed = True
        self._wake()

    async def Check(  # noqa: N802 - named by the proto
        self, request: HealthCheckRequest, rpc: GrpcContext
    ) -> HealthCheckResponse:
        status = self._statuses.get(request.service)
        if status is None:
            await rpc.abort(grpc.StatusCode.NOT_FOUND)
        return HealthCheckResponse(status=status)

    async def List(self, _request: Any, _rpc: GrpcContext) -> Any:  # noqa: N802
        listed = {name: HealthCheckResponse(status=at) for name, at in self._statuses.items()}
        return protos.HealthListResponse(statuses=listed)

    async def Watch(  # noqa: N802
        self, request: HealthCheckRequest, _rpc: GrpcContext
    ) -> AsyncIterator[HealthCheckResponse]:
        name = request.service if request.service in self._statuses else None
        # A watch has no end, and the name of an unknown service may be long.
        del request
        request_context.current().request = None
        sent: int | None = None
        while not self._closed:
            changed = self._changed
            status = UNKNOWN if name is None else self._statuses[name]
            if status == sent:
                await changed.wait()
            else:
                yield HealthCheckResponse(status=status)
                sent = status
        raise NotReadyError("The server is shutting down")

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
