"""The names that a model can have in a request."""

from __future__ import annotations

import re
from collections.abc import Iterable

# Fireworks names models so, and some of its clients know no other form.
ACCOUNT_PREFIX = re.compile(r"accounts/[^/]+/models/")


def is_named(model_id: str, name: str) -> bool:
    """Whether a name means the model: it is the model's id, alone or within an account."""
    prefix = ACCOUNT_PREFIX.match(name)
    return name[prefix.end() if prefix else 0 :] == model_id


def is_among(model_ids: Iterable[str] | None, name: str) -> bool:
    """Whether a name means one of the models. None stands for all models."""
    return model_ids is None or any(is_named(model_id, name) for model_id in model_ids)
