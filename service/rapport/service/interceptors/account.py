"""What one RPC is and does: kept while it runs, read by log, metrics and limits at its end."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field

import grpc

from rapport.service.engine.errors import Bound
from rapport.service.engine.generation import Generation
from rapport.service.engine.request import Tenant
from rapport.service.interceptors.transcript import Transcript

_CURRENT: ContextVar[Account] = ContextVar("account")


@dataclass(slots=True)
class Account:
    """Times are in seconds; those of tokens are None as long as there is none."""

    method: str
    request_id: str
    key_id: str = ""
    """The id of the caller's key; empty where none is asked for."""
    user: str = ""
    """The hash of the user that the request names."""
    model: str = ""
    """The model that the request names."""
    models: tuple[str, ...] | None = None
    """The models that the caller's key is for; None: all."""
    streamed: bool = False
    code: grpc.StatusCode = grpc.StatusCode.OK
    reason: str = ""
    """Why it failed, as its status says; empty where it did not, or the caller left."""
    bound: Bound | None = None
    """Of what there was too much, if it was refused for overload."""
    generation: Generation | None = None
    """What the engine made, once it was asked."""
    on_submit: Callable[[], None] | None = None
    """Called when the engine is asked, and so the prompt's tokens are known."""
    transcript: Transcript = field(default_factory=Transcript)
    caller_trace: Mapping[str, str] = field(default_factory=dict)
    """The caller's `traceparent` and `tracestate`, as they came."""
    trace_id: str = ""
    """Known at the end, to those that come after the tracer."""
    arrived: float = field(default_factory=time.monotonic)

    def submitted(self, generation: Generation) -> None:
        """Notes that the engine is asked."""
        self.generation = generation
        if self.on_submit is not None:
            self.on_submit()

    @property
    def tenant(self) -> Tenant:
        """Whose request it is. Nobody can pass for a user of another key."""
        return Tenant(self.key_id, self.user)

    @property
    def duration(self) -> float:
        return time.monotonic() - self.arrived

    @property
    def prompt_tokens(self) -> int:
        return len(self.generation.request.prompt) if self.generation else 0

    @property
    def cached_tokens(self) -> int:
        return self.generation.cached_tokens if self.generation else 0

    @property
    def completion_tokens(self) -> int:
        return self.generation.completion_tokens if self.generation else 0

    @property
    def has_first_token(self) -> bool:
        return self.ttft is not None

    @property
    def queued(self) -> float | None:
        """From the engine's door to a slot."""
        made = self.generation
        return made.begun_at - made.submitted_at if made and made.begun_at else None

    @property
    def ttft(self) -> float | None:
        """From the arrival to the first token."""
        made = self.generation
        return made.first_at - self.arrived if made and made.first_at else None

    @property
    def itl(self) -> float | None:
        """Between two tokens, on the average."""
        made = self.generation
        if made is None or made.first_at is None or made.completion_tokens < 2:  # noqa: PLR2004 - from one to another
            return None
        return (made.last_at - made.first_at) / (made.completion_tokens - 1)


def begin(account: Account) -> None:
    """Makes an account that of this RPC."""
    _CURRENT.set(account)


def current() -> Account:
    """The account of this RPC."""
    return _CURRENT.get()
