"""Who calls, by names that may be kept and logged."""

from __future__ import annotations

import hmac

LENGTH = 12


def hidden(user: str, salt: bytes) -> str:
    """A name for a user that does not give the user away to those without the salt."""
    return hmac.digest(salt, user.encode(), "sha256").hex()[:LENGTH]
