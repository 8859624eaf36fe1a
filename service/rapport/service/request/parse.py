"""A checked request and its prompt to what the engine is asked for."""

from __future__ import annotations

from dataclasses import dataclass

from rapport.service.engine.request import (
    ANONYMOUS,
    GenerationRequest,
    SamplingParams,
    Tenant,
    Tier,
)
from rapport.service.engine.text.vocabulary import Vocabulary
from rapport.service.errors import FieldViolation, InvalidRequestError, PromptTooLongError
from rapport.service.prompt.turns import content_text
from rapport.service.request.rules import has
from rapport.service.response.logprobs import wanted_logprobs
from rapport.v1.chat_pb2 import (
    CONTEXT_LENGTH_EXCEEDED_BEHAVIOR_ERROR,
    SERVICE_TIER_FLEX,
    SERVICE_TIER_PRIORITY,
    CreateChatCompletionRequest,
)

SAMPLING_FIELDS = (
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "typical_p",
    "repetition_penalty",
    "frequency_penalty",
    "presence_penalty",
    "mirostat_target",
    "mirostat_lr",
    "seed",
)

TIERS = {SERVICE_TIER_PRIORITY: Tier.PRIORITY, SERVICE_TIER_FLEX: Tier.FLEX}


@dataclass(frozen=True, slots=True)
class Defaults:
    """What requests do not say themselves."""

    max_tokens: int = 2048
    stop_in_output: bool = True
    isolate_keys: bool = False
    """Whether callers with different keys share no computed prefix."""
    max_request_tokens: int = 0
    """Tokens that the choices of a request may have together; 0 is no limit."""


def generation_request(
    request: CreateChatCompletionRequest,
    prompt: tuple[int, ...],
    context_length: int,
    defaults: Defaults,
    tenant: Tenant = ANONYMOUS,
) -> GenerationRequest:
    """What the engine is asked for.

    Raises:
        PromptTooLongError: the prompt leaves no room.
        InvalidRequestError: max_tokens does not fit, and the caller wants to hear of it, or
            the choices are too long together.
    """
    n = request.n or 1
    max_tokens = _max_tokens(request, len(prompt), context_length, defaults.max_tokens)
    if 0 < (most := defaults.max_request_tokens) < n * max_tokens:
        raise _too_much(n, max_tokens, most)
    return GenerationRequest(
        prompt=prompt,
        max_tokens=max_tokens,
        n=n,
        sampling=_sampling(request),
        stop=_stop(request),
        stop_in_output=defaults.stop_in_output,
        ignore_eos=request.ignore_eos,
        namespace=_namespace(request, tenant.key if defaults.isolate_keys else ""),
        tenant=tenant,
        tier=TIERS.get(request.service_tier, Tier.DEFAULT),
        logprobs=wanted_logprobs(request),
    )


def _namespace(request: CreateChatCompletionRequest, key_id: str) -> str:
    # A key's id is as long as any other, so two pairs never make the same name.
    return key_id + request.prompt_cache_isolation_key


def _max_tokens(
    request: CreateChatCompletionRequest, prompt: int, context_length: int, default: int
) -> int:
    room = context_length - prompt
    if room < 1:
        raise PromptTooLongError(prompt, context_length)
    asked = request.max_tokens or request.max_completion_tokens
    behavior = request.context_length_exceeded_behavior
    if asked > room and behavior == CONTEXT_LENGTH_EXCEEDED_BEHAVIOR_ERROR:
        raise _does_not_fit(request, prompt, asked, context_length)
    return min(asked or default, room)


def _does_not_fit(
    request: CreateChatCompletionRequest, prompt: int, asked: int, context_length: int
) -> InvalidRequestError:
    field = "max_tokens" if request.max_tokens else "max_completion_tokens"
    text = (
        f"The prompt's {prompt} tokens and {field} {asked} "
        f"exceed the model's context length of {context_length}"
    )
    return InvalidRequestError([FieldViolation(field, text)])


def _too_much(n: int, max_tokens: int, most: int) -> InvalidRequestError:
    text = f"{n} choices of {max_tokens} tokens are more than {most} tokens together"
    return InvalidRequestError([FieldViolation("n", text)])


def _sampling(request: CreateChatCompletionRequest) -> SamplingParams:
    given = {name: getattr(request, name) for name in SAMPLING_FIELDS if has(request, name)}
    return SamplingParams(**given, logit_bias=dict(request.logit_bias))


def prediction_of(request: CreateChatCompletionRequest, vocabulary: Vocabulary) -> tuple[int, ...]:
    """The tokens foretold; ids that no token has can only be wrong."""
    if request.speculation.WhichOneof("kind") == "token_ids":
        ids = request.speculation.token_ids.items
        return tuple(id_ for id_ in ids if 0 <= id_ < vocabulary.size)
    text = request.speculation.text or content_text(request.prediction.content)
    return tuple(vocabulary.encode_text(text)) if text else ()


def _stop(request: CreateChatCompletionRequest) -> tuple[str, ...]:
    if request.stop.WhichOneof("kind") == "text":
        return (request.stop.text,)
    return tuple(request.stop.list.items)
