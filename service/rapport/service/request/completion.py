"""Parses a request for the completion of prompts: checks all its rules, and gives plain values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from rapport.service.errors import FieldViolation
from rapport.service.request import fields
from rapport.service.request.limits import metadata_violations
from rapport.service.request.options import NO_DEFAULTS, TextRequest, common_options
from rapport.service.request.rules import (
    Parser,
    Violations,
    check_given,
    check_min_items,
    limits_of,
    run,
)
from rapport.v1.completion_pb2 import CompletionPrompt, CreateCompletionRequest, TextList

PROMPTS = limits_of(TextList, "items")
MAX_CHOICES = limits_of(CreateCompletionRequest, "n").maximum
"""Of all prompts together."""

PromptText = str | tuple[int, ...]
"""A prompt as text, or as tokens."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt, and the path of its field."""

    field: str
    content: PromptText


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletionRequest(TextRequest):
    """A request for completions that keeps the rules of the API."""

    prompts: Sequence[Prompt]


def parse_completion_request(
    request: CreateCompletionRequest,
    *,
    vocabulary_size: int,
    streaming: bool,
    sampling_defaults: Mapping[str, float] = NO_DEFAULTS,
) -> CompletionRequest:
    """Parses a request whose lists have passed `check_sizes`.

    The arguments are those of `parse_chat_request`.

    Raises:
        InvalidRequestError: it breaks the rules; all violations are named.
    """
    return run(_parse(request, vocabulary_size, sampling_defaults, streaming=streaming))


def _parse(
    request: CreateCompletionRequest,
    vocabulary_size: int,
    sampling_defaults: Mapping[str, float],
    *,
    streaming: bool,
) -> Parser[CompletionRequest]:
    yield from check_given("model", given=bool(request.model))
    prompts = list(_prompts(request.prompt))
    yield from _prompt_violations(request.prompt, prompts, vocabulary_size)
    yield from fields.number_violations(request)
    yield from fields.stop_violations(request.stop)
    yield from fields.label_violations(request)
    yield from metadata_violations(request)
    yield from fields.enum_violations(request)
    yield from fields.logprobs_violations(request)
    yield from _unserved_violations(request, len(prompts))
    yield from fields.bias_violations(request, vocabulary_size)
    yield from fields.stream_violations(request, streaming=streaming)
    return CompletionRequest(**common_options(request, sampling_defaults), prompts=prompts)


def _prompts(prompt: CompletionPrompt) -> Iterable[Prompt]:
    match prompt.WhichOneof("kind"):
        case "text":
            yield Prompt("prompt", prompt.text)
        case "token_ids":
            yield Prompt("prompt", tuple(prompt.token_ids.items))
        case "texts":
            for index, text in enumerate(prompt.texts.items):
                yield Prompt(f"prompt[{index}]", text)
        case "token_lists":
            for index, tokens in enumerate(prompt.token_lists.items):
                yield Prompt(f"prompt[{index}]", tuple(tokens.items))


def _prompt_violations(
    prompt: CompletionPrompt, prompts: Sequence[Prompt], vocabulary_size: int
) -> Violations:
    yield from check_given("prompt", given=prompt.WhichOneof("kind") is not None)
    if prompt.WhichOneof("kind") in ("texts", "token_lists"):
        yield from check_min_items("prompt", len(prompts), PROMPTS)
    for each in prompts:
        if not each.content:
            yield FieldViolation(each.field, "The prompt should have at least one token")
        elif not isinstance(each.content, str):
            yield from _token_violations(each.field, each.content, vocabulary_size)


def _token_violations(field: str, tokens: Iterable[int], vocabulary_size: int) -> Violations:
    """The first token of a prompt that there is not: the others may be as many as it has."""
    for place, token in enumerate(tokens):
        if not 0 <= token < vocabulary_size:
            text = f"Token id should be between 0 and {vocabulary_size - 1}"
            yield FieldViolation(f"{field}[{place}]", text)
            return


def _unserved_violations(request: CreateCompletionRequest, prompts: int) -> Violations:
    """What the API has and this service has not."""
    if request.suffix:
        yield FieldViolation("suffix", "The model only continues texts: the suffix should be empty")
    n = request.n or 1
    if request.HasField("best_of") and request.best_of not in (1, n):
        yield FieldViolation("best_of", f"Input should be 1 or the number of completions, {n}")
    if prompts > 1 and prompts * n > MAX_CHOICES:
        text = f"{prompts} prompts should have at most {MAX_CHOICES:g} completions together"
        yield FieldViolation("n", f"{text}, not {prompts * n}")
