"""What is known of one RPC: who calls, what was asked, what was generated, and when."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import grpc
from grpc_status import rpc_status

from rapport.service.engine.batch import GenerationBatch
from rapport.service.engine.errors import Bound, OverloadedError
from rapport.service.engine.generation import Generation
from rapport.service.engine.request import Tenant
from rapport.service.interceptors.transcript import Transcript
from rapport.service.keys.key_store import Key
from rapport.service.keys.rate_limiter import RequestQuota
from rapport.service.rpc.grpc_status import kind_of, status_of

REQUEST_ID = "x-request-id"

GrpcContext = grpc.aio.ServicerContext[Any, Any]


@dataclass(slots=True)
class RequestContext:
    """One RPC while it runs, and what the access log, metrics and traces read when it has ended.

    Interceptors and servicers fill it in. Times are in seconds, of the monotonic clock. Those of
    tokens are None until there is a token.
    """

    rpc: GrpcContext
    method: str
    """The full name, such as `/rapport.v1.ChatService/Tokenize`."""
    request_id: str
    streamed: bool = False
    trace_headers: Mapping[str, str] = field(default_factory=dict)
    """The caller's `traceparent` and `tracestate`, unchanged."""
    arrived_at: float = field(default_factory=time.monotonic)
    key: Key | None = None
    """The caller's API key; None where none is required."""
    quota: RequestQuota | None = None
    """What the request is charged to; None where it is free."""
    request: Any = None
    """The request message, once it has been read."""
    model: str = ""
    """The model that the request names."""
    user_hash: str = ""
    """The hash of the user that the request names."""
    response_headers: dict[str, str] = field(default_factory=dict)
    """Headers that the servicer adds to the answer's."""
    headers_sent: bool = False
    generation: Generation | GenerationBatch | None = None
    """The generation, or those of several prompts, once it was submitted to the engine."""
    tokenized: int = 0
    """The tokens of a text that was only tokenized."""
    transcript: Transcript = field(default_factory=Transcript)
    code: grpc.StatusCode = grpc.StatusCode.OK
    error_reason: str = ""
    """Why it failed, as in its status; empty if it did not fail or the caller left."""
    overload_bound: Bound | None = None
    """The limit that was exceeded, if it was refused for overload."""
    trace_id: str = ""
    """Set when the RPC has ended, for the observers after the tracer."""

    async def send_headers(self) -> None:
        """Sends the response headers, once. Proxies may retry an error that comes before them."""
        if not self.headers_sent:
            self.headers_sent = True
            headers = (*self._common_metadata(), *self.response_headers.items())
            await self.rpc.send_initial_metadata(headers)

    def add_headers_and_trailers(self, headers: Mapping[str, str]) -> None:
        """Adds headers that stand in the trailers of the answer too."""
        if headers:
            self.response_headers.update(headers)
            self.rpc.set_trailing_metadata(tuple(headers.items()))

    async def abort(self, error: Exception) -> None:
        """Ends the RPC with the status of an error."""
        status = rpc_status.to_status(status_of(error))
        self.code, self.error_reason = status.code, kind_of(error).reason
        if isinstance(error, OverloadedError):
            self.overload_bound = error.bound
        trailers = (*status.trailing_metadata, *self._common_metadata())
        await self.rpc.abort(status.code, status.details, trailers)

    def set_generation(self, generation: Generation | GenerationBatch) -> None:
        """Notes that the request was submitted, and charges the tokens of its prompt."""
        self.generation = generation
        if self.quota is not None:
            self.quota.charge(self)

    @property
    def key_id(self) -> str:
        """The id of the caller's key; empty without one."""
        return self.key.id if self.key is not None else ""

    @property
    def allowed_models(self) -> tuple[str, ...] | None:
        """The models that the caller's key may use; None: all."""
        return self.key.models if self.key is not None else None

    @property
    def tenant(self) -> Tenant:
        """The user of a key. Users of the same name under different keys are different tenants."""
        return Tenant(self.key_id, self.user_hash)

    @property
    def caller(self) -> str:
        """Who shares what is bounded for each caller: a key, or a host where no key is required.

        All that the gateway calls for callers without a key is one caller's.
        """
        return self.key_id or self.rpc.peer().rpartition(":")[0]

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self.arrived_at

    @property
    def prompt_tokens(self) -> int:
        return self.generation.prompt_tokens if self.generation else self.tokenized

    @property
    def cached_tokens(self) -> int:
        return self.generation.cached_tokens if self.generation else 0

    @property
    def completion_tokens(self) -> int:
        return self.generation.completion_tokens if self.generation else 0

    @property
    def has_first_token(self) -> bool:
        return self.generation is not None and self.generation.first_token_at is not None

    @property
    def queue_s(self) -> float | None:
        """From the submission to the engine until a slot was assigned."""
        generation = self.generation
        if generation is None or generation.started_at is None:
            return None
        return generation.started_at - generation.submitted_at

    @property
    def ttft_s(self) -> float | None:
        """From the arrival of the request until the engine gave the first token."""
        generation = self.generation
        if generation is None or generation.first_token_at is None:
            return None
        return generation.first_token_at - self.arrived_at

    @property
    def itl_s(self) -> float | None:
        """The mean time between tokens; None with fewer than two tokens."""
        run = self.generation
        if run is None or run.first_token_at is None or run.completion_tokens < 2:  # noqa: PLR2004 - from one to another
            return None
        return (run.last_token_at - run.first_token_at) / (run.completion_tokens - 1)

    def _common_metadata(self) -> Iterator[tuple[str, str]]:
        """What both answers and errors carry."""
        yield REQUEST_ID, self.request_id
        if self.quota is not None:
            self.quota.charge(self)
            yield from self.quota.headers().items()


RequestObserver = Callable[[RequestContext], None]
"""Called with each RPC that has ended."""

_CURRENT: ContextVar[RequestContext] = ContextVar("request_context")


def set_current(context: RequestContext) -> None:
    """Makes it the context of the RPC that this task runs."""
    _CURRENT.set(context)


def current() -> RequestContext:
    """The context of the RPC that this task runs."""
    return _CURRENT.get()
