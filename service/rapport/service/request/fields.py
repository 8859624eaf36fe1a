"""The rules for the options of a request: all fields but messages, prompts and tools.

Limits stand in the protos. The order of the fields here is that in which violations are named.
"""

from __future__ import annotations

from functools import cache

from google.protobuf.descriptor import Descriptor, EnumDescriptor

from rapport.rest.v1 import rest_pb2
from rapport.rest.v1.rest_pb2 import FieldLimits
from rapport.service.errors import FieldViolation
from rapport.service.request.rules import (
    Violations,
    check_enum,
    check_length,
    check_max_items,
    check_range,
    is_set,
    limits_of,
    plain,
)
from rapport.v1.chat_pb2 import (
    ContextLengthExceededBehavior,
    CreateChatCompletionRequest,
    ReasoningHistory,
    ReasoningLevel,
    ServiceTier,
    StopList,
    StopSequences,
)
from rapport.v1.completion_pb2 import CreateCompletionRequest
from rapport.v1.logprobs_pb2 import LogprobsRequest

RequestMessage = CreateChatCompletionRequest | CreateCompletionRequest

NUMBERS = (
    "max_tokens",
    "max_completion_tokens",
    "prompt_truncate_len",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "typical_p",
    "frequency_penalty",
    "presence_penalty",
    "repetition_penalty",
    "mirostat_target",
    "mirostat_lr",
    "n",
    "top_logprobs",
    "echo_last",
)
LABELS = ("user", "prompt_cache_key", "prompt_cache_isolation_key", "safety_identifier")
BIAS_LIMITS = limits_of(CreateChatCompletionRequest, "logit_bias")
STOP_LIMITS = limits_of(StopSequences, "text")
STOP_LIST_LIMITS = limits_of(StopList, "items")
TOP_LOGPROBS_LIMITS = limits_of(CreateChatCompletionRequest, "top_logprobs")
LOGPROBS_LIMITS = limits_of(LogprobsRequest, "count")
ENUMS: dict[str, EnumDescriptor] = {
    "context_length_exceeded_behavior": ContextLengthExceededBehavior.DESCRIPTOR,
    "service_tier": ServiceTier.DESCRIPTOR,
    "reasoning_history": ReasoningHistory.DESCRIPTOR,
}
# Pairs of which a request may have one.
EXCLUSIVE = (("max_tokens", "max_completion_tokens"), ("reasoning_effort", "thinking"))
LEVELS_OFF = (ReasoningLevel.REASONING_LEVEL_UNSPECIFIED, ReasoningLevel.REASONING_LEVEL_NONE)
HISTORY_OFF = (
    ReasoningHistory.REASONING_HISTORY_UNSPECIFIED,
    ReasoningHistory.REASONING_HISTORY_DISABLED,
)


@cache
def limited(kind: Descriptor, fields: tuple[str, ...]) -> tuple[tuple[str, FieldLimits], ...]:
    """Those of the fields that a kind of request has, and their limits."""
    known = kind.fields_by_name
    options = [(field, known[field].GetOptions()) for field in fields if field in known]
    return tuple((field, each.Extensions[rest_pb2.limits]) for field, each in options)


def number_violations(request: RequestMessage) -> Violations:
    for field, limits in limited(request.DESCRIPTOR, NUMBERS):
        if is_set(request, field):
            yield from check_range(field, getattr(request, field), limits)


def stop_violations(stop: StopSequences) -> Violations:
    kind = stop.WhichOneof("kind")
    if kind == "text":
        yield from check_length("stop", stop.text, STOP_LIMITS)
    elif kind == "list":
        texts = stop.list.items
        yield from check_max_items("stop", len(texts), STOP_LIST_LIMITS)
        for index, text in enumerate(texts[: STOP_LIST_LIMITS.max_items]):
            yield from check_length(f"stop[{index}]", text, STOP_LIST_LIMITS)


def label_violations(request: RequestMessage) -> Violations:
    for field, limits in limited(request.DESCRIPTOR, LABELS):
        yield from check_length(field, getattr(request, field), limits)


def enum_violations(request: RequestMessage) -> Violations:
    for field, enum in ENUMS.items():
        if field in request.DESCRIPTOR.fields_by_name:
            yield from check_enum(field, getattr(request, field), enum)


def exclusion_violations(request: CreateChatCompletionRequest) -> Violations:
    for first, second in EXCLUSIVE:
        if is_set(request, first) and is_set(request, second):
            yield FieldViolation(second, f"Input should be unset where '{first}' is set")


def logprobs_violations(request: RequestMessage) -> Violations:
    count, limits = request.logprobs.count, LOGPROBS_LIMITS
    if not limits.minimum <= count <= limits.maximum:
        bounds = f"{plain(limits.minimum)} and {plain(limits.maximum)}"
        yield FieldViolation("logprobs", f"logprobs must be between {bounds}: {count}")

    most = TOP_LOGPROBS_LIMITS.maximum
    if 0 < request.top_logprobs <= most and not request.logprobs.enabled:
        yield FieldViolation("top_logprobs", "Input should be unset unless 'logprobs' is true")


def reasoning_violations(request: CreateChatCompletionRequest) -> Violations:
    """No model here reasons: asking for it is refused, turning it off is accepted."""
    effort = request.reasoning_effort
    wanted = {
        "reasoning_effort": effort.enabled
        or effort.HasField("budget")
        or effort.level not in LEVELS_OFF,
        "reasoning_history": request.reasoning_history not in HISTORY_OFF,
        "thinking": request.thinking.HasField("enabled"),
    }
    text = "The model does not reason; only a value that means off is possible"
    for field in (field for field, is_wanted in wanted.items() if is_wanted):
        yield FieldViolation(field, text)


def store_violations(request: CreateChatCompletionRequest) -> Violations:
    if request.store:
        yield FieldViolation("store", "Input should be False")


def bias_violations(request: RequestMessage, vocabulary_size: int) -> Violations:
    for token, bias in sorted(request.logit_bias.items()):
        field = f"logit_bias.{token}"
        if not 0 <= token < vocabulary_size:
            text = f"Token id should be between 0 and {vocabulary_size - 1}"
            yield FieldViolation(field, text)
        yield from check_range(field, bias, BIAS_LIMITS)


def stream_violations(request: RequestMessage, *, streaming: bool) -> Violations:
    if request.HasField("stream") and request.stream != streaming:
        text = f"Input should be {streaming}, or unset, for the RPC called"
        yield FieldViolation("stream", text)
