"""What surrounds every RPC: an id, an account, errors as statuses, the key."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from uuid import uuid4

import grpc
from grpc_status import rpc_status

from rapport.common.telemetry.formatters import fields
from rapport.common.telemetry.traces import TRACE_HEADERS
from rapport.service.engine.errors import Overloaded
from rapport.service.errors import ModelForbiddenError, UnauthenticatedError
from rapport.service.interceptors import account
from rapport.service.interceptors.account import Account
from rapport.service.interceptors.caller import hidden
from rapport.service.interceptors.slow_reader import Readers
from rapport.service.keys.key_store import Key, KeyStore
from rapport.service.keys.rate_limiter import RateLimiter
from rapport.service.request.model_names import is_among
from rapport.service.rpc import response_headers as headers
from rapport.service.rpc.grpc_status import kind_of, status_of
from rapport.service.rpc.service_names import CHAT_SERVICE

# Health and reflection stay outside: probes and the gateway have no key.
OURS = ("/rapport.", "/grpc.channelz.")
CHAT = f"/{CHAT_SERVICE}/"
REQUEST_ID = "x-request-id"
_GIVEN_ID = re.compile(r"[\x21-\x7e]{1,128}")

logger = logging.getLogger(__name__)

Context = grpc.aio.ServicerContext[Any, Any]


@dataclass(slots=True)
class Call:
    """An RPC under way."""

    context: Context
    account: Account
    request: Any = None
    """Once it has been read."""
    key: Key | None = None
    telling: list[Callable[[], Mapping[str, str]]] = field(default_factory=list)
    """Make headers of what is known when the answer begins, or fails."""
    answered: bool = False

    async def answer(self) -> None:
        """Sends the headers, once. An error before them is one that proxies may retry."""
        if not self.answered:
            self.answered = True
            told = (*self._told(), *headers.current())
            await self.context.send_initial_metadata(told)

    async def fail(self, error: Exception) -> None:
        """Ends the RPC with the error's status."""
        status = rpc_status.to_status(status_of(error))
        self.account.code, self.account.reason = status.code, kind_of(error).reason
        if isinstance(error, Overloaded):
            self.account.bound = error.bound
        trailers = (*status.trailing_metadata, *self._told())
        await self.context.abort(status.code, status.details, trailers)

    def _told(self) -> Iterator[tuple[str, str]]:
        yield REQUEST_ID, self.account.request_id
        for tell in self.telling:
            yield from tell().items()


Scope = Callable[[Call], AbstractAsyncContextManager[None]]


class Around(grpc.aio.ServerInterceptor):
    """Runs our services' RPCs within scopes, the outermost first.

    A request is taken for a stream of one, so that an RPC begins before it is there: a scope
    reads it, after those that need not know it.
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
            return grpc.stream_stream_rpc_method_handler(
                self._stream(method, handler.unary_stream),
                handler.request_deserializer,
                handler.response_serializer,
            )
        return grpc.stream_unary_rpc_method_handler(
            self._unary(method, handler.unary_unary),
            handler.request_deserializer,
            handler.response_serializer,
        )

    def _unary(self, method: str, behaviour: Callable[..., Any]) -> Callable[..., Any]:
        async def unary(_: object, context: Context) -> Any:
            async with self._entered(method, context, streamed=False) as call:
                response = await behaviour(call.request, context)
                await call.answer()
                return response

        return unary

    def _stream(self, method: str, behaviour: Callable[..., Any]) -> Callable[..., Any]:
        async def stream(_: object, context: Context) -> AsyncIterator[Any]:
            async with (
                self._entered(method, context, streamed=True) as call,
                aclosing(behaviour(call.request, context)) as pieces,
            ):
                with self._readers.watched(call.fail, call.account.request_id) as reader:
                    async for piece in pieces:
                        if not call.answered:
                            await call.answer()
                        reader.sending()
                        yield piece
                        reader.sent()

        return stream

    @asynccontextmanager
    async def _entered(
        self, method: str, context: Context, *, streamed: bool
    ) -> AsyncIterator[Call]:
        trace = {name: _metadata(context, name) for name in TRACE_HEADERS}
        ours = Account(method, _request_id(context), streamed=streamed, caller_trace=trace)
        call = Call(context, ours)
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


@asynccontextmanager
async def answer_errors(call: Call) -> AsyncIterator[None]:
    """Turns an error into the status that tells of it, and logs those that are our fault."""
    try:
        yield
    except Exception as error:
        if kind_of(error).code is grpc.StatusCode.INTERNAL:
            id_ = call.account.request_id
            extra = fields(request_id=id_)
            logger.exception("%s failed, request %s", call.account.method, id_, extra=extra)
        await call.fail(error)


def require_key(key_store: KeyStore) -> Scope:
    """Lets in who shows a key that is found."""

    @asynccontextmanager
    async def authenticated(call: Call) -> AsyncIterator[None]:
        scheme, _, shown = _metadata(call.context, "authorization").partition(" ")
        key = key_store.find(shown.strip().encode())
        if scheme.lower() != "bearer" or key is None:
            raise UnauthenticatedError
        call.key = key
        call.account.key_id = key.id
        call.account.models = key.models
        yield

    return authenticated


def name_subject(salt: bytes) -> Scope:
    """Notes which model and, hashed, which user a request names."""

    @asynccontextmanager
    async def named(call: Call) -> AsyncIterator[None]:
        call.account.model = getattr(call.request, "model", "")
        user = getattr(call.request, "user", "")
        call.account.user = hidden(user, salt) if user else ""
        yield

    return named


@asynccontextmanager
async def permit_model(call: Call) -> AsyncIterator[None]:
    """Keeps a key to its models."""
    asked = call.account.model
    if asked and not is_among(call.account.models, asked):
        raise ModelForbiddenError
    yield


def keep_limits(limiter: RateLimiter, nobody: Key) -> Scope:
    """Keeps keys and users to their limits, and tells of them. To ask for models is free.

    Who needs no key has the limits of `nobody`, together.
    """

    @asynccontextmanager
    async def limited(call: Call) -> AsyncIterator[None]:
        if not call.account.method.startswith(CHAT):
            yield
            return
        quota = limiter.quota(call.key or nobody, call.account.user)

        def left() -> Mapping[str, str]:
            quota.charge(call.account)
            return quota.headers()

        call.account.on_submit = partial(quota.charge, call.account)
        call.telling.append(left)
        with quota.admit(call.account):
            yield

    return limited


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
