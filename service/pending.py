"""Fields that are in the protos and not built yet: refused where used, never ignored."""

from __future__ import annotations

from collections.abc import Callable

from rapport.v1.chat_pb2 import (
    CreateChatCompletionRequest,
    ReasoningHistory,
    ReasoningLevel,
)
from service.errors import NotSupported

Used = Callable[[CreateChatCompletionRequest], bool]


def true(field: str) -> Used:
    """Any value but the default counts: true, a number above zero, an item."""
    return lambda request: bool(getattr(request, field))


# Earlier reasoning is left out of the prompt as it is.
HISTORY_OFF = (
    ReasoningHistory.REASONING_HISTORY_UNSPECIFIED,
    ReasoningHistory.REASONING_HISTORY_DISABLED,
)
THINKING_OFF = (
    ReasoningLevel.REASONING_LEVEL_UNSPECIFIED,
    ReasoningLevel.REASONING_LEVEL_NONE,
)

# The field, and when it asks for more than its absence would.
PENDING: dict[str, Used] = {
    "tools": true("tools"),
    "functions": true("functions"),
    "response_format": lambda r: r.response_format.WhichOneof("kind") not in (None, "text"),
}


def refuse_pending(request: CreateChatCompletionRequest) -> None:
    """Lets a request pass that uses none of the fields.

    Raises:
        NotSupported: it uses some.
    """
    if used := [field for field, is_used in PENDING.items() if is_used(request)]:
        raise NotSupported(used)
