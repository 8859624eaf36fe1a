"""The names that a model goes by."""

from __future__ import annotations

import re
from collections.abc import Iterable

# Fireworks writes models so, and some of its clients know no other way.
ACCOUNT = re.compile(r"accounts/[^/]+/models/")


def is_named(model: str, asked: str) -> bool:
    """Whether `asked` means the model: its id, or its id within an account."""
    account = ACCOUNT.match(asked)
    return asked[account.end() if account else 0 :] == model


def is_among(models: Iterable[str] | None, asked: str) -> bool:
    """Whether `asked` means one of the models; None has them all."""
    return models is None or any(is_named(model, asked) for model in models)
