"""The one place that relies on private names of grpcio.

When the pin of grpcio moves, look at `grpc/_cython/_cygrpc/aio/callback_common.pyx.pxi`, where
`ExecuteBatchError` is raised, and at `server.pyx.pxi` beside it, which logs what an RPC's handler
raises and whose `_server_main_loop` requests calls. If a name is another now, change it here;
`tests/service/interceptors/test_grpc_internals.py` fails then.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import grpc
from grpc._cython import cygrpc  # type: ignore[attr-defined]

GrpcContext = grpc.aio.ServicerContext[Any, Any]

Refusal = Callable[[object, GrpcContext], Awaitable[None]]

LOGGER = "grpc._cython.cygrpc"
SEND_ERROR = "ExecuteBatchError"
BAD_METADATA = "Invalid encoding on"


def mute_callers_errors() -> None:
    """Keeps grpcio from logging, with tracebacks, what is no fault of the service.

    These are callers that went away while a message was sent to them, which the access log has,
    and metadata that is not UTF-8, which grpcio reads as Latin-1.
    """
    logging.getLogger(LOGGER).addFilter(_is_our_error)


@contextmanager
def surviving_undecodable_paths(refuse: Refusal) -> Iterator[None]:
    """Makes a server that is created in the `with` block refuse methods that are not registered.

    `refuse` ends such a call.

    grpcio (1.84 to 1.85.3) decodes the path of such a call in the loop that accepts calls, so that
    one call of a path that is not UTF-8 would end the server. Generic handlers are not asked.
    """
    original = cygrpc.AioServer
    members = {"refuse": staticmethod(refuse)}
    cygrpc.AioServer = type("Server", (_RegisteredOnlyServer,), members)
    try:
        yield
    finally:
        cygrpc.AioServer = original


def _is_our_error(record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if record.exc_info else None
    return type(error).__name__ != SEND_ERROR and not record.getMessage().startswith(BAD_METADATA)


class _RegisteredOnlyServer(cygrpc.AioServer):  # type: ignore[misc]
    """Has calls of unregistered methods answered under the name of a method that nobody knows.

    The name of a registered method is not decoded from what the caller sent.
    """

    refuse: Refusal

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._unregistered = f"/{uuid4()}"
        handler: Any = grpc.stream_stream_rpc_method_handler(self.refuse)
        self.add_registered_method_handlers({self._unregistered: handler})

    def _make_request_call_future(self, method: bytes | None) -> asyncio.Future[Any]:
        if method is None:  # what grpcio would decode
            return asyncio.get_running_loop().create_future()
        unregistered = method == self._unregistered.encode()
        future: asyncio.Future[Any] = super()._make_request_call_future(
            None if unregistered else method
        )
        return future
