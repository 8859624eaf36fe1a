"""Passing RPCs that have ended to the access log, metrics and traces."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc

from rapport.service.interceptors.context import GrpcContext, RequestContext, RequestObserver
from rapport.service.interceptors.scope import Scope


def notify_observers(*observers: RequestObserver) -> Scope:
    """Calls the observers, in this order, when the RPC has ended, however it did."""

    @asynccontextmanager
    async def scope(context: RequestContext) -> AsyncIterator[None]:
        try:
            yield
        except (asyncio.CancelledError, GeneratorExit):
            if context.code is grpc.StatusCode.OK:
                context.code = _cancellation_code(context.rpc)
            raise
        finally:
            for observer in observers:
                observer(context)

    return scope


def _cancellation_code(rpc: GrpcContext) -> grpc.StatusCode:
    remaining = rpc.time_remaining()
    expired = remaining is not None and remaining <= 0
    return grpc.StatusCode.DEADLINE_EXCEEDED if expired else grpc.StatusCode.CANCELLED
