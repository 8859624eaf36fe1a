"""Fields that are in the protos and not built yet: refused where used, never ignored."""

from __future__ import annotations

from collections.abc import Callable

from rapport.v1.chat_pb2 import (
    CreateChatCompletionRequest,
    ReasoningEffort,
    ReasoningHistory,
    ReasoningLevel,
)
from service.errors import NotSupported
from service.rules import has

Used = Callable[[CreateChatCompletionRequest], bool]


def given(field: str) -> Used:
    """Any value counts."""
    return lambda request: has(request, field)


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
    "logprobs": lambda r: r.logprobs.enabled or r.logprobs.HasField("count"),
    "top_logprobs": true("top_logprobs"),
    "mirostat_target": given("mirostat_target"),
    "mirostat_lr": given("mirostat_lr"),
    "echo": true("echo"),
    "echo_last": true("echo_last"),
    "raw_output": true("raw_output"),
    "return_token_ids": true("return_token_ids"),
    "perf_metrics_in_response": true("perf_metrics_in_response"),
    "prompt_truncate_len": given("prompt_truncate_len"),
    "reasoning_effort": lambda r: asks_to_think(r.reasoning_effort),
    "reasoning_history": lambda r: r.reasoning_history not in HISTORY_OFF,
    "thinking": lambda r: r.thinking.HasField("enabled"),
    "prediction": given("prediction"),
    "speculation": given("speculation"),
    "safe_tokenization": lambda r: r.HasField("safe_tokenization") and not r.safe_tokenization,
}


def refuse_pending(request: CreateChatCompletionRequest) -> None:
    """Lets a request pass that uses none of the fields.

    Raises:
        NotSupported: it uses some.
    """
    if used := [field for field, is_used in PENDING.items() if is_used(request)]:
        raise NotSupported(used)


def asks_to_think(effort: ReasoningEffort) -> bool:
    return effort.enabled or effort.HasField("budget") or effort.level not in THINKING_OFF
