"""The contract's rules for a chat request, whether it came over REST or gRPC."""

from __future__ import annotations

from collections.abc import Callable

from google.protobuf.descriptor import EnumDescriptor

from rapport.service.errors import FieldViolation, InvalidRequestError, ModelNotFoundError
from rapport.service.request.limits import LABEL_LENGTH, length_violations
from rapport.service.request.messages import message_violations
from rapport.service.request.model_names import is_named
from rapport.service.request.rules import (
    Violations,
    has,
    known,
    length,
    never,
    required,
    size,
    within,
)
from rapport.service.request.tools import tool_violations
from rapport.v1.chat_pb2 import (
    ContextLengthExceededBehavior,
    CreateChatCompletionRequest,
    ReasoningHistory,
    ReasoningLevel,
    ServiceTier,
)

RANGES: dict[str, tuple[int | None, int | None]] = {
    "max_tokens": (1, None),
    "max_completion_tokens": (1, None),
    "prompt_truncate_len": (1, None),
    "temperature": (0, 2),
    "top_p": (0, 1),
    "top_k": (0, 100),
    "min_p": (0, 1),
    "typical_p": (0, 1),
    "frequency_penalty": (-2, 2),
    "presence_penalty": (-2, 2),
    "repetition_penalty": (0, 2),
    "mirostat_target": (0, None),
    "mirostat_lr": (0, None),
    "n": (1, 128),
    "top_logprobs": (0, 5),
    "echo_last": (0, None),
}
BIAS_RANGE = (-100, 100)
MOST_LOGPROBS = 5
MOST_STOPS = 4
STOP_LENGTH = 1000
LABELS = ("user", "prompt_cache_key", "prompt_cache_isolation_key", "safety_identifier")
ENUMS: dict[str, EnumDescriptor] = {
    "context_length_exceeded_behavior": ContextLengthExceededBehavior.DESCRIPTOR,
    "service_tier": ServiceTier.DESCRIPTOR,
    "reasoning_history": ReasoningHistory.DESCRIPTOR,
}
# A pair of which a request may have one.
EXCLUSIVE = (("max_tokens", "max_completion_tokens"), ("reasoning_effort", "thinking"))
OFF = (ReasoningLevel.REASONING_LEVEL_UNSPECIFIED, ReasoningLevel.REASONING_LEVEL_NONE)
NO_HISTORY = (
    ReasoningHistory.REASONING_HISTORY_UNSPECIFIED,
    ReasoningHistory.REASONING_HISTORY_DISABLED,
)


def check(
    request: CreateChatCompletionRequest, *, model: str, vocabulary_size: int, streaming: bool
) -> None:
    """Lets a request pass that keeps the contract. Its lists are none too long.

    Raises:
        ModelNotFoundError: it is for another model than `model`.
        InvalidRequestError: it breaks the contract; all that is wrong is named.
    """
    if request.model and not is_named(model, request.model):
        raise ModelNotFoundError
    violations = [
        *(found for rule in RULES for found in rule(request)),
        *bias_violations(request, vocabulary_size),
        *stream_violations(request, streaming=streaming),
    ]
    if violations:
        raise InvalidRequestError(violations)


def model_violations(request: CreateChatCompletionRequest) -> Violations:
    yield from required("model", given=bool(request.model))


def range_violations(request: CreateChatCompletionRequest) -> Violations:
    for field, (low, high) in RANGES.items():
        if has(request, field):
            yield from within(field, getattr(request, field), low, high)


def label_violations(request: CreateChatCompletionRequest) -> Violations:
    for field in LABELS:
        yield from length(field, getattr(request, field), 0, LABEL_LENGTH)


def enum_violations(request: CreateChatCompletionRequest) -> Violations:
    for field, enum in ENUMS.items():
        yield from known(field, getattr(request, field), enum)


def exclusion_violations(request: CreateChatCompletionRequest) -> Violations:
    for first, second in EXCLUSIVE:
        if has(request, first) and has(request, second):
            yield FieldViolation(second, f"Input should be unset where '{first}' is set")


def stop_violations(request: CreateChatCompletionRequest) -> Violations:
    kind = request.stop.WhichOneof("kind")
    if kind == "text":
        yield from length("stop", request.stop.text, 1, STOP_LENGTH)
    elif kind == "list":
        stops = request.stop.list.items
        yield from size("stop", len(stops), 1, MOST_STOPS)
        for index, text in enumerate(stops[:MOST_STOPS]):
            yield from length(f"stop[{index}]", text, 1, STOP_LENGTH)


def logprobs_violations(request: CreateChatCompletionRequest) -> Violations:
    count = request.logprobs.count
    if not 0 <= count <= MOST_LOGPROBS:
        yield FieldViolation("logprobs", f"logprobs must be between 0 and {MOST_LOGPROBS}: {count}")

    if 0 < request.top_logprobs <= MOST_LOGPROBS and not request.logprobs.enabled:
        yield FieldViolation("top_logprobs", "Input should be unset unless 'logprobs' is true")


def reasoning_violations(request: CreateChatCompletionRequest) -> Violations:
    """The models served do not reason: what asks them to is refused, what means off is not."""
    effort = request.reasoning_effort
    asked = {
        "reasoning_effort": effort.enabled or effort.HasField("budget") or effort.level not in OFF,
        "reasoning_history": request.reasoning_history not in NO_HISTORY,
        "thinking": request.thinking.HasField("enabled"),
    }
    for field in (field for field, wanted in asked.items() if wanted):
        yield FieldViolation(
            field, "The model does not reason; only a value that means off is possible"
        )


def store_violations(request: CreateChatCompletionRequest) -> Violations:
    yield from never("store", value=request.store)


def bias_violations(request: CreateChatCompletionRequest, vocabulary_size: int) -> Violations:
    for token, bias in sorted(request.logit_bias.items()):
        field = f"logit_bias.{token}"
        if not 0 <= token < vocabulary_size:
            yield FieldViolation(field, f"Token id should be between 0 and {vocabulary_size - 1}")
        yield from within(field, bias, *BIAS_RANGE)


def stream_violations(request: CreateChatCompletionRequest, *, streaming: bool) -> Violations:
    if request.HasField("stream") and request.stream != streaming:
        yield FieldViolation("stream", f"Input should be {streaming}, or unset, for the RPC called")


RULES: tuple[Callable[[CreateChatCompletionRequest], Violations], ...] = (
    model_violations,
    message_violations,
    range_violations,
    stop_violations,
    label_violations,
    length_violations,
    enum_violations,
    exclusion_violations,
    logprobs_violations,
    tool_violations,
    reasoning_violations,
    store_violations,
)
