"""Who calls: the key that let an RPC in, by a name that may be kept and logged."""

from __future__ import annotations

from contextvars import ContextVar
from hashlib import sha256

_KEY_ID: ContextVar[str] = ContextVar("key_id", default="")


def key_id(key: bytes) -> str:
    """A name for a key that does not give the key away."""
    return sha256(key).hexdigest()[:12]


def enter(identity: str) -> None:
    """Notes whose RPC this is."""
    _KEY_ID.set(identity)


def current() -> str:
    """The id of the key of this RPC; empty where none is asked for."""
    return _KEY_ID.get()
