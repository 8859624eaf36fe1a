"""What surrounds every RPC: an id, a line in the log, errors as statuses, the key."""

from __future__ import annotations

import asyncio
import hmac
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import grpc
from grpc_status import rpc_status

from service import account, headers
from service.account import Account
from service.caller import hidden
from service.delivery import Readers
from service.errors import Unauthenticated
from service.status import kind_of, status_of

OURS = "/rapport."
REQUEST_ID = "x-request-id"
_GIVEN_ID = re.compile(r"[\x21-\x7e]{1,128}")

logger = logging.getLogger(__name__)
access = logging.getLogger("rapport.access")

Context = grpc.aio.ServicerContext[Any, Any]


@dataclass(slots=True)
class Call:
    """An RPC under way."""

    context: Context
    account: Account
    answered: bool = False

    async def answer(self) -> None:
        """Sends the headers, once. An error before them is one that proxies may retry."""
        if not self.answered:
            self.answered = True
            ids = ((REQUEST_ID, self.account.request_id),)
            await self.context.send_initial_metadata((*ids, *headers.current()))

    async def fail(self, error: Exception) -> None:
        """Ends the RPC with the error's status."""
        status = rpc_status.to_status(status_of(error))
        self.account.code = status.code
        trailers = (*status.trailing_metadata, (REQUEST_ID, self.account.request_id))
        await self.context.abort(status.code, status.details, trailers)


Scope = Callable[[Call], AbstractAsyncContextManager[None]]


class Around(grpc.aio.ServerInterceptor):
    """Runs our services' RPCs within scopes, the outermost first.

    Health and reflection stay outside: probes and the gateway have no key.
    """

    def __init__(self, scopes: Sequence[Scope], readers: Readers) -> None:
        self._scopes = scopes
        self._readers = readers

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None or not method.startswith(OURS):
            return handler
        if handler.response_streaming:
            return grpc.unary_stream_rpc_method_handler(
                self._stream(method, handler.unary_stream),
                handler.request_deserializer,
                handler.response_serializer,
            )
        return grpc.unary_unary_rpc_method_handler(
            self._unary(method, handler.unary_unary),
            handler.request_deserializer,
            handler.response_serializer,
        )

    def _unary(self, method: str, behaviour: Callable[..., Any]) -> Callable[..., Any]:
        async def unary(request: Any, context: Context) -> Any:
            async with self._entered(method, context) as call:
                response = await behaviour(request, context)
                await call.answer()
                return response

        return unary

    def _stream(self, method: str, behaviour: Callable[..., Any]) -> Callable[..., Any]:
        async def stream(request: Any, context: Context) -> AsyncIterator[Any]:
            async with (
                self._entered(method, context) as call,
                aclosing(behaviour(request, context)) as pieces,
            ):
                async for piece in pieces:
                    if not call.answered:
                        await call.answer()
                    with self._readers.waiting(call.fail, call.account.request_id):
                        yield piece

        return stream

    @asynccontextmanager
    async def _entered(self, method: str, context: Context) -> AsyncIterator[Call]:
        call = Call(context, Account(method, _request_id(context)))
        account.begin(call.account)
        headers.begin()
        async with AsyncExitStack() as stack:
            for scope in self._scopes:
                await stack.enter_async_context(scope(call))
            yield call


Closing = Callable[[Account], None]


def keep_account(*closings: Closing) -> Scope:
    """Passes the account of each RPC on when it has ended, however it did."""

    @asynccontextmanager
    async def kept(call: Call) -> AsyncIterator[None]:
        try:
            yield
        except (asyncio.CancelledError, GeneratorExit):
            if call.account.code is grpc.StatusCode.OK:
                call.account.code = _why_cancelled(call.context)
            raise
        finally:
            for closing in closings:
                closing(call.account)

    return kept


def log_access(ended: Account) -> None:
    """Writes one line: method, code, time taken, id. Never what was said, never a key."""
    took = ended.duration * 1000
    access.info("%s %s %.1f ms %s", ended.method, ended.code.name, took, ended.request_id)


@asynccontextmanager
async def answer_errors(call: Call) -> AsyncIterator[None]:
    """Turns an error into the status that tells of it, and logs those that are our fault."""
    try:
        yield
    except Exception as error:
        if kind_of(error).code is grpc.StatusCode.INTERNAL:
            logger.exception("%s failed, request %s", call.account.method, call.account.request_id)
        await call.fail(error)


def require_key(keys: Iterable[str]) -> Scope:
    """Lets in who shows one of the keys."""
    known = {key.encode(): hidden(key.encode()) for key in keys}

    @asynccontextmanager
    async def authenticated(call: Call) -> AsyncIterator[None]:
        scheme, _, key = _metadata(call.context, "authorization").partition(" ")
        # Every key is compared, so that time tells nothing of which one came close.
        shown = key.strip().encode()
        matches = [identity for each, identity in known.items() if hmac.compare_digest(shown, each)]
        if scheme.lower() != "bearer" or not matches:
            raise Unauthenticated
        call.account.key_id = matches[0]
        yield

    return authenticated


def _request_id(context: Context) -> str:
    given = _metadata(context, REQUEST_ID)
    return given if _GIVEN_ID.fullmatch(given) else str(uuid4())


def _metadata(context: Context, name: str) -> str:
    for key, value in context.invocation_metadata() or ():
        if key == name:
            return value if isinstance(value, str) else value.decode("latin-1")
    return ""


def _why_cancelled(context: Context) -> grpc.StatusCode:
    left = context.time_remaining()
    expired = left is not None and left <= 0
    return grpc.StatusCode.DEADLINE_EXCEEDED if expired else grpc.StatusCode.CANCELLED
