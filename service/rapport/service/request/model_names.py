"""The names that a model can have in a request."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

# Fireworks names models so, and some of its clients know no other form.
ACCOUNT_PREFIX = re.compile(r"accounts/[^/]+/models/")


def is_named(model_id: str, name: str) -> bool:
    """Whether a name means the model: it is the model's id, alone or within an account."""
    prefix = ACCOUNT_PREFIX.match(name)
    return model_id in (name, name[prefix.end() if prefix else 0 :])


def is_among(model_ids: Iterable[str] | None, name: str) -> bool:
    """Whether a name means one of the models. None stands for all models."""
    return model_ids is None or any(is_named(model_id, name) for model_id in model_ids)


def may_use(allowed: Iterable[str] | None, name: str, names: Collection[str]) -> bool:
    """Whether who may use the allowed models may use one by this name.

    `names` are those of the served model: who may use it by one of them may by all.
    """
    if is_among(allowed, name):
        return True
    return is_among(names, name) and any(is_among(allowed, each) for each in names)
