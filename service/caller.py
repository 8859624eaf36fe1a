"""Who calls, by names that may be kept and logged."""

from __future__ import annotations

from hashlib import sha256


def hidden(name: bytes) -> str:
    """A name for a key or a user that does not give it away."""
    return sha256(name).hexdigest()[:12]
