"""Who calls: the API key, the user that the request names, and the models they may use."""

from __future__ import annotations

import hmac
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager

from rapport.service.errors import (
    AdminKeyRequiredError,
    ModelForbiddenError,
    ModelNotFoundError,
    UnauthenticatedError,
)
from rapport.service.interceptors.context import RequestContext
from rapport.service.interceptors.scope import Scope, metadata_value
from rapport.service.keys.key_store import KeyStore
from rapport.service.request.model_names import may_use

USER_HASH_LENGTH = 12


def authenticate(key_store: KeyStore) -> Scope:
    """Requires a key of the store, as a bearer token."""

    @asynccontextmanager
    async def scope(context: RequestContext) -> AsyncIterator[None]:
        scheme, _, token = metadata_value(context.rpc, "authorization").partition(" ")
        key = await key_store.find(token.strip().encode())
        if scheme.lower() != "bearer" or key is None:
            raise UnauthenticatedError(missing=not token.strip())
        context.key = key
        yield

    return scope


def authorize_admin(*prefixes: str) -> Scope:
    """Requires an admin key for methods that begin so. Where no keys are required, all may call."""

    @asynccontextmanager
    async def scope(context: RequestContext) -> AsyncIterator[None]:
        is_barred = context.key is not None and not context.key.admin
        if is_barred and context.method.startswith(prefixes):
            raise AdminKeyRequiredError
        yield

    return scope


def identify(salt: bytes) -> Scope:
    """Notes the model and, hashed with the salt, the user that the request names."""

    @asynccontextmanager
    async def scope(context: RequestContext) -> AsyncIterator[None]:
        context.model = getattr(context.request, "model", "")
        user = getattr(context.request, "user", "")
        context.user_hash = hash_user(user, salt) if user else ""
        yield

    return scope


def authorize_model(served_names: Callable[[], Collection[str]]) -> Scope:
    """Refuses models that the key may not use, and names no other than those it may.

    `served_names` gives the names of the served model, none while it is not loaded.
    """

    @asynccontextmanager
    async def scope(context: RequestContext) -> AsyncIterator[None]:
        allowed, names = context.allowed_models, served_names()
        if context.model and not may_use(allowed, context.model, names):
            raise ModelForbiddenError
        try:
            yield
        except ModelNotFoundError as error:
            named = [model for model in error.served if may_use(allowed, model, names)]
            raise ModelNotFoundError(*named) from None

    return scope


def hash_user(user: str, salt: bytes) -> str:
    """A pseudonym for a user: without the salt the user cannot be found by trial."""
    return hmac.digest(salt, user.encode(), "sha256").hex()[:USER_HASH_LENGTH]
