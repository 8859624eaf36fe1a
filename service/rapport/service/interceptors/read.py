"""Reading and parsing request messages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import cache
from typing import Any

import grpc
from google.protobuf import descriptor_pool
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from rapport.common.fair_threads import FairThreads, Steps
from rapport.service.errors import RequestMissingError, UnreadableRequestError
from rapport.service.interceptors.context import GrpcContext, RequestContext
from rapport.service.interceptors.field_count import check_field_count
from rapport.service.interceptors.scope import Scope

# Parsing takes some milliseconds at most. What is larger is parsed in another thread.
SMALL_BYTES = 64 << 10
# A message that is sent whole is read sooner, also on a busy machine.
MIN_WAIT_S = 1.0


class MessageReader:
    """Reads messages within `timeout_s`: one that never comes would hold its place for ever.

    While more than `max_incomplete` of a key are read, those of them that wait the longest are
    given up, because each may hold a part of a large message. For the event loop alone.
    """

    def __init__(self, timeout_s: float, max_incomplete: int) -> None:
        self._timeout_s = timeout_s
        self._max_incomplete = max_incomplete
        self._began_at: dict[str, dict[asyncio.Timeout, float]] = {}
        self._given_up: set[asyncio.Timeout] = set()

    async def read(self, rpc: GrpcContext, key_id: str = "") -> Any:
        """The bytes of the next message, or EOF. Callers without a key count together.

        Raises:
            RequestMissingError: it did not come in time.
        """
        began_at = asyncio.get_running_loop().time()
        until = asyncio.timeout(self._timeout_s)
        try:
            async with until:
                with self._counted(key_id, until, began_at):
                    return await rpc.read()
        except TimeoutError:
            text = f"The request did not come within {self._timeout_s:g} s"
            if until in self._given_up:
                text = "Too many requests are incomplete"
            raise RequestMissingError(text) from None
        finally:
            self._given_up.discard(until)

    @contextmanager
    def _counted(self, key_id: str, until: asyncio.Timeout, began_at: float) -> Iterator[None]:
        incomplete = self._began_at.setdefault(key_id, {})
        incomplete[until] = began_at
        self._give_up_oldest(incomplete, began_at)
        try:
            yield
        finally:
            del incomplete[until]
            if not incomplete:
                del self._began_at[key_id]

    def _give_up_oldest(self, incomplete: dict[asyncio.Timeout, float], now: float) -> None:
        if len(incomplete) <= self._max_incomplete:
            return
        oldest, began_at = next(iter(incomplete.items()))
        if now - began_at > MIN_WAIT_S and not oldest.expired():
            self._given_up.add(oldest)
            oldest.reschedule(now)


def read_request(reader: MessageReader, threads: FairThreads) -> Scope:
    """Reads and parses the only request of an RPC."""

    @asynccontextmanager
    async def scope(context: RequestContext) -> AsyncIterator[None]:
        data = await reader.read(context.rpc, context.key_id)
        if data is grpc.aio.EOF:
            raise RequestMissingError("The call ended without a request")
        kind = _request_type(context.method)
        try:
            if len(data) <= SMALL_BYTES:
                context.request = kind.FromString(data)
            else:
                context.request = await threads.run_steps(context.caller, _parse(data, kind))
        except DecodeError as error:
            raise UnreadableRequestError from error
        yield

    return scope


def _parse(data: bytes, kind: type[Message]) -> Steps[Message]:
    yield from check_field_count(data, kind)
    return kind.FromString(data)


@cache
def _request_type(method: str) -> type[Message]:
    """The request message of an RPC, such as `/rapport.v1.ChatService/Tokenize`."""
    name = method.removeprefix("/").replace("/", ".")
    return GetMessageClass(descriptor_pool.Default().FindMethodByName(name).input_type)
