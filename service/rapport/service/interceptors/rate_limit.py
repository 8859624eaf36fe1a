"""Rate limits of API keys and users."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from rapport.service.interceptors.context import RequestContext
from rapport.service.interceptors.scope import Scope
from rapport.service.keys.key_store import Key
from rapport.service.keys.rate_limiter import RateLimiter
from rapport.service.rpc.service_names import GENERATING


def limit_rate(limiter: RateLimiter, anonymous: Key) -> Scope:
    """Applies the limits of keys to RPCs that generate text; others are free.

    They count before their requests are read, so that calls without a request are limited, too.
    Callers without a key share the limits of `anonymous`.
    """

    @asynccontextmanager
    async def scope(context: RequestContext) -> AsyncIterator[None]:
        if not context.method.startswith(GENERATING):
            yield
            return
        # Set before it is admitted: the headers of a refusal have the limits, too.
        context.quota = limiter.quota(context.key or anonymous)
        with context.quota.admit(context):
            yield

    return scope


@asynccontextmanager
async def limit_users(context: RequestContext) -> AsyncIterator[None]:
    """Applies the limits of the user that the request names, where those of the key apply."""
    if context.quota is not None:
        context.quota.confirm(context.user_hash)
    yield
