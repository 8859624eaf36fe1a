"""Turns a parsed request into the requests that the engine takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha256

from rapport.common.fair_threads import Steps
from rapport.service.engine.request import ANONYMOUS, GenerationRequest, Tenant
from rapport.service.engine.sampling.constraint import Grammar
from rapport.service.errors import FieldViolation, InvalidRequestError, PromptTooLongError
from rapport.service.lifecycle import ServedModel
from rapport.service.request.completion import CompletionRequest, Prompt
from rapport.service.request.options import NO_DEFAULTS, MaxTokens, TextRequest
from rapport.service.request.parse import ChatRequest
from rapport.service.structured_output.compiler import CompiledFormat, FormatCompiler
from rapport.service.tools.grammar import tool_call_grammar
from rapport.service.tools.tool_choice import ToolPolicy

# As many tokens as OpenAI's and Fireworks' completions have by default.
COMPLETION_MAX_TOKENS = 16
# Each takes some 60 bytes of an answer in JSON.
MAX_LOGPROBS = 2_000_000


@dataclass(frozen=True, slots=True)
class Defaults:
    """The server's settings for requests."""

    max_tokens: int = 2048
    """For chat requests that do not say how many tokens they want."""
    stop_in_output: bool = True
    model_sampling: bool = False
    """Whether the model's own sampling values hold where a request says nothing."""
    isolate_keys: bool = False
    """Whether callers with different keys share no computed prefix."""
    max_request_tokens: int = 0
    """The most tokens of all choices of a request together; 0: no limit."""

    def sampling(self, served: ServedModel) -> Mapping[str, float]:
        """Sampling values of a model for requests that do not set them, by their names."""
        return served.engine.spec.sampling_defaults.given if self.model_sampling else NO_DEFAULTS


@dataclass(frozen=True, slots=True)
class RequestTokens:
    """What of a request the tokenizer decides."""

    prompt: tuple[int, ...]
    max_tokens: int
    """Of a choice. Prompt and choice fit the context together."""
    prediction: tuple[int, ...] = ()


def tokenize_request(
    request: ChatRequest, served: ServedModel, defaults: Defaults
) -> Steps[RequestTokens]:
    """Tokenizes the prompt and the prediction.

    Raises:
        InvalidRequestError: the chat template refuses the messages, or as `fit_max_tokens`.
        PromptTooLongError: the prompt leaves no room for an answer.
    """
    prompt = yield from served.prompts.encode(
        request.messages,
        tools=request.tools.definitions,
        max_tokens=request.max_prompt_tokens,
        safe=request.safe_tokenization,
    )
    context_length = served.engine.context_length
    max_tokens = fit_max_tokens(request, len(prompt), context_length, defaults.max_tokens)
    check_total(request, [max_tokens], defaults.max_request_tokens)
    check_logprobs(request, max_tokens + scored_tokens(request, len(prompt)))
    prediction = request.prediction
    if isinstance(prediction, str):
        tokens = yield from served.prompts.encode_text(prediction, context_length)
        prediction = tuple(tokens)
    return RequestTokens(prompt, max_tokens, prediction[:context_length])


def tokenize_prompts(
    request: CompletionRequest, served: ServedModel, defaults: Defaults
) -> Steps[list[RequestTokens]]:
    """Tokenizes the prompts of a request for completions.

    Raises:
        InvalidRequestError: as `fit_max_tokens`.
        PromptTooLongError: a prompt leaves no room for an answer.
    """
    context_length = served.engine.context_length
    found = []
    for prompt in request.prompts:
        tokens = yield from _prompt_tokens(prompt, served)
        max_tokens = fit_max_tokens(
            request, len(tokens), context_length, COMPLETION_MAX_TOKENS, prompt.field
        )
        found.append(RequestTokens(tokens, max_tokens))
    check_total(request, [each.max_tokens for each in found], defaults.max_request_tokens)
    scored = (scored_tokens(request, len(each.prompt)) for each in found)
    check_logprobs(request, sum(each.max_tokens for each in found) + sum(scored))
    return found


def _prompt_tokens(prompt: Prompt, served: ServedModel) -> Steps[tuple[int, ...]]:
    if isinstance(prompt.content, str):
        return (yield from served.prompts.encode_prompt(prompt.content, prompt.field))
    return prompt.content


def fit_max_tokens(
    request: TextRequest,
    prompt_tokens: int,
    context_length: int,
    default: int,
    prompt_field: str = "messages",
) -> int:
    """How many tokens a choice may have.

    Raises:
        PromptTooLongError: the prompt leaves no room.
        InvalidRequestError: there is no prompt, or max_tokens does not fit and must.
    """
    if prompt_tokens < 1:
        raise InvalidRequestError([FieldViolation(prompt_field, "The prompt has no tokens")])
    room = context_length - prompt_tokens
    if room < 1:
        raise PromptTooLongError(prompt_tokens, context_length, field=prompt_field)
    wanted = request.max_tokens
    if wanted.must_fit and wanted.value is not None and wanted.value > room:
        raise _does_not_fit(wanted, prompt_tokens, context_length)
    return min(wanted.value or default, room)


def check_total(request: TextRequest, max_tokens: Sequence[int], limit: int) -> None:
    """Checks what all choices may have together; `max_tokens` are those of a choice, by prompt.

    Raises:
        InvalidRequestError: they exceed the server's limit, if it has one.
    """
    if 0 < limit < request.n * sum(max_tokens):
        choices = request.n * len(max_tokens)
        text = (
            f"{choices} choices of {max(max_tokens)} tokens are more than {limit} tokens together"
        )
        raise InvalidRequestError([FieldViolation("n", text)])


def check_logprobs(request: TextRequest, tokens: int) -> None:
    """Checks how many log probabilities an answer may have; `tokens` are those of a choice.

    Raises:
        InvalidRequestError: they are more than an answer may hold.
    """
    if request.logprobs is None:
        return
    found = request.n * tokens * (1 + request.logprobs.alternatives)
    if found > MAX_LOGPROBS:
        text = (
            f"The answer could have {found} log probabilities of tokens and their alternatives, "
            f"which should be at most {MAX_LOGPROBS}"
        )
        raise InvalidRequestError([FieldViolation("logprobs", text)])


def key_of_tools(tools: ToolPolicy) -> bytes:
    """A key for the grammar of tools. It takes a good part of a second for some megabytes."""
    return sha256(f"{tools}".encode()).digest()


async def compile_grammar(
    request: TextRequest, key: bytes, compiler: FormatCompiler, caller: str
) -> CompiledFormat:
    """The grammar of calls if there are tools, else that of the format.

    Callers take turns, each identified by its API key. `key` is that of the request's tools.

    Raises:
        InvalidRequestError: a schema or a format cannot be enforced.
        OverloadedError: too many grammars are being compiled.
    """
    tools = request.tools
    if not tools.functions:
        return await compiler.compile_format(request.response_format, caller)
    exact, loose = b"exact " + key, b"loose " + key
    # The loose one is compiled only where the exact one cannot be.
    if known := compiler.recall(loose):
        return known
    translate = partial(tool_call_grammar, tools, compiler.alphabet)
    try:
        return await compiler.compile(translate, "tools", exact, caller)
    except InvalidRequestError:
        if tools.exact:
            raise
    translate = partial(tool_call_grammar, tools, compiler.alphabet, loose=True)
    return await compiler.compile(translate, "tools", loose, caller)


def build_generation_request(
    request: TextRequest,
    tokens: RequestTokens,
    grammar: Grammar | None,
    defaults: Defaults,
    tenant: Tenant = ANONYMOUS,
) -> GenerationRequest:
    """The request that the engine takes."""
    # All ids of keys have the same length, so different pairs never make the same namespace.
    key_id = tenant.key if defaults.isolate_keys else ""
    return GenerationRequest(
        prompt=tokens.prompt,
        max_tokens=tokens.max_tokens,
        n=request.n,
        sampling=request.sampling,
        stop=request.stop,
        stop_in_output=defaults.stop_in_output,
        ignore_eos=request.ignore_eos,
        grammar=grammar,
        prediction=tokens.prediction,
        namespace=key_id + request.cache_isolation_key,
        tenant=tenant,
        tier=request.tier,
        logprobs=None if request.logprobs is None else request.logprobs.alternatives,
        scored_tokens=scored_tokens(request, len(tokens.prompt)),
    )


def scored_tokens(request: TextRequest, prompt_tokens: int) -> int:
    """How many tokens of a prompt get log probabilities: those that the answer repeats."""
    return 0 if request.logprobs is None else request.output.echoed_tokens(prompt_tokens)


def _does_not_fit(
    wanted: MaxTokens, prompt_tokens: int, context_length: int
) -> InvalidRequestError:
    text = (
        f"The prompt's {prompt_tokens} tokens and {wanted.field} {wanted.value} "
        f"exceed the model's context length of {context_length}"
    )
    return InvalidRequestError([FieldViolation(wanted.field, text)])
