from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rapport.common.fair_threads import finish
from rapport.service.engine.request import ANONYMOUS, GenerationRequest, Tenant
from rapport.service.errors import InvalidRequestError, PromptTooLongError
from rapport.service.request.generation import (
    MAX_LOGPROBS,
    Defaults,
    RequestTokens,
    build_generation_request,
    check_logprobs,
    check_total,
    compile_grammar,
    fit_max_tokens,
    key_of_tools,
    scored_tokens,
    tokenize_request,
)
from rapport.service.request.parse import ChatRequest, parse_chat_request
from rapport.service.structured_output.strict_json import field_error
from rapport.service.tools.tool_choice import NO_PARAMETERS, NO_TOOLS, Function, ToolPolicy
from rapport.v1.format_pb2 import JsonObjectFormat, ResponseFormat
from rapport.v1.logprobs_pb2 import LogprobsRequest
from tests.service.fakes import ScriptedEngine, Uncompiled, served
from tests.service.requests import chat

DEFAULTS = Defaults(max_tokens=50, stop_in_output=True)
ERROR = "CONTEXT_LENGTH_EXCEEDED_BEHAVIOR_ERROR"


def parsed(**fields: Any) -> ChatRequest:
    request = chat(**fields)
    return parse_chat_request(request, vocabulary_size=1000, streaming=False)


def generated(
    defaults: Defaults = DEFAULTS, tenant: Tenant = ANONYMOUS, **fields: Any
) -> GenerationRequest:
    """What the engine gets of a request with a prompt of one token."""
    request = parsed(**fields)
    max_tokens = fit_max_tokens(request, 1, 100, defaults.max_tokens)
    check_total(request, [max_tokens], defaults.max_request_tokens)
    tokens = RequestTokens((1,), max_tokens)
    return build_generation_request(request, tokens, None, defaults, tenant)


def max_tokens(prompt: int, **fields: Any) -> int:
    return fit_max_tokens(parsed(**fields), prompt, 100, DEFAULTS.max_tokens)


@pytest.mark.parametrize(
    ("prompt", "fields", "expected"),
    [
        (10, {}, 50),
        (10, {"max_tokens": 20}, 20),
        (10, {"max_completion_tokens": 20}, 20),
        (10, {"max_tokens": 200}, 90),
        (70, {}, 30),
        (99, {}, 1),
        (10, {"max_tokens": 90, "context_length_exceeded_behavior": ERROR}, 90),
        (70, {"context_length_exceeded_behavior": ERROR}, 30),
    ],
)
def test_max_tokens(prompt: int, fields: dict[str, object], expected: int) -> None:
    """max_tokens is what was asked, else the default, and never more than fits."""
    assert max_tokens(prompt, **fields) == expected


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
def test_error_where_it_does_not_fit(field: str) -> None:
    """A caller who wants to hear of it learns prompt tokens, max_tokens and context length."""
    message = f"The prompt's 10 tokens and {field} 91 exceed the model's context length of 100"
    with pytest.raises(InvalidRequestError, match=message):
        max_tokens(10, context_length_exceeded_behavior=ERROR, **{field: 91})


def test_prompt_of_nothing() -> None:
    """A prompt that a template, or a tokenizer, leaves nothing of is refused by its field."""
    with pytest.raises(InvalidRequestError, match="The prompt has no tokens, field: 'messages'"):
        max_tokens(0)


@pytest.mark.parametrize("behavior", ["CONTEXT_LENGTH_EXCEEDED_BEHAVIOR_TRUNCATE", ERROR])
def test_prompt_that_fills_the_context(behavior: str) -> None:
    """A prompt that leaves no room is refused, whatever the behaviour."""
    with pytest.raises(
        PromptTooLongError, match=r"too long: 100, model maximum context length: 99$"
    ):
        max_tokens(100, context_length_exceeded_behavior=behavior)


@given(prompt=st.integers(1, 99), asked=st.integers(1, 2**31 - 1))
def test_always_fits(prompt: int, asked: int) -> None:
    """Prompt and max_tokens fit the context together."""
    assert 1 <= max_tokens(prompt, max_tokens=asked) <= 100 - prompt


@pytest.mark.parametrize(("most", "n"), [(0, 128), (150, 3)])
def test_choices_within_their_bound(most: int, n: int) -> None:
    """As many choices are made as have room together."""
    defaults = Defaults(50, max_request_tokens=most)
    assert generated(defaults, n=n).n == n


def test_choices_beyond_their_bound() -> None:
    """n times the tokens that a choice may have, once they fit the context, is bounded."""
    defaults = Defaults(50, max_request_tokens=297)
    assert generated(defaults, n=3, max_tokens=1000).max_tokens == 99
    message = "4 choices of 99 tokens are more than 297 tokens together, field: 'n'"
    with pytest.raises(InvalidRequestError, match=message):
        generated(defaults, n=4, max_tokens=1000)


def test_log_probabilities_within_their_bound() -> None:
    """What is echoed counts, and so do the alternatives of all choices."""
    request = parsed(n=100, echo=True, logprobs=LogprobsRequest(enabled=True), top_logprobs=19)
    assert scored_tokens(request, 70) == 70
    assert scored_tokens(parsed(echo=True), 70) == 0
    check_logprobs(request, MAX_LOGPROBS // 2000)
    check_logprobs(parsed(n=100), MAX_LOGPROBS)
    with pytest.raises(InvalidRequestError, match="2002000 log probabilities") as raised:
        check_logprobs(request, MAX_LOGPROBS // 2000 + 1)
    assert [violation.field for violation in raised.value.violations] == ["logprobs"]


def test_the_rest() -> None:
    """n, ignore_eos and the server's way with stop texts arrive."""
    request = generated(Defaults(50, False), n=3, ignore_eos=True)
    assert (request.n, request.ignore_eos, request.stop_in_output) == (3, True, False)
    assert generated().n == 1


def test_keys_share_prefixes_unless_told_not_to() -> None:
    """Isolated, neither the same isolation key nor a crafted one reaches another key's."""

    def namespace(isolation: str, key_id: str, *, isolate: bool) -> str:
        defaults, tenant = Defaults(isolate_keys=isolate), Tenant(key_id)
        return generated(defaults, tenant, prompt_cache_isolation_key=isolation).namespace

    assert namespace("a", "k1", isolate=False) == namespace("a", "k2", isolate=False)
    assert namespace("a", "k1", isolate=True) != namespace("a", "k2", isolate=True)
    assert namespace("", "k1", isolate=True) != namespace("k1", "k2", isolate=True)


@pytest.mark.parametrize(
    ("fields", "prediction"),
    [
        ({}, b""),
        ({"speculation": {"text": "so"}}, b"so"),
        ({"speculation": {"token_ids": {"items": [66, -1, 10**6, 67]}}}, None),
        ({"prediction": {"content": {"text": "so"}}}, b"so"),
    ],
)
def test_prediction(fields: dict[str, object], prediction: bytes | None) -> None:
    """What is foretold as text or tokens; ids that no token has are left out."""
    wanted = (66, 67) if prediction is None else tuple(prediction)
    tokens = finish(tokenize_request(parsed(**fields), served(ScriptedEngine()), DEFAULTS))
    assert tokens.prediction == wanted


CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


class Limited(Uncompiled):
    """Refuses grammars that have properties."""

    tries = 0

    async def compile(self, source: Any, field: str, form: bytes, caller: str) -> Any:
        self.tries += 1
        if "properties" in source().text:
            raise field_error(field, "Grammar not supported: too large")
        return await super().compile(source, field, form, caller)


def use(**how: Any) -> ToolPolicy:
    return ToolPolicy((Function("f", CITY, "tools", strict=how.pop("strict", False)),), **how)


async def source(tools: ToolPolicy, formats: Any = None, **fields: Any) -> str | None:
    request = replace(parsed(**fields), tools=tools)
    compiled = await compile_grammar(request, key_of_tools(tools), formats or Uncompiled(), "")
    return None if compiled.grammar is None else compiled.grammar.source


async def test_free_text() -> None:
    """Without tools and format there is no grammar."""
    assert await source(NO_TOOLS) is None


async def test_format() -> None:
    """Without tools, the format says what the answer is."""
    wanted = ResponseFormat(json_object=JsonObjectFormat())
    assert await source(NO_TOOLS, response_format=wanted) == "json_object"


async def test_calls() -> None:
    """With tools, calls have their form, whether they are forced or not."""
    for tools in (use(), use(forced=True)):
        assert "city" in (await source(tools) or "")


async def test_too_large() -> None:
    """Schemas that are too much together are left out, unless they must be kept to."""
    assert "properties" not in (await source(use(), Limited()) or "properties")
    for tools in (use(forced=True), use(strict=True)):
        with pytest.raises(InvalidRequestError, match="too large"):
            await source(tools, Limited())


async def test_too_large_once() -> None:
    """What was found too large is not tried again while what stands for it is known."""
    formats = Limited()
    first = await source(use(), formats)
    assert formats.tries == 2
    assert await source(use(), formats) == first
    assert formats.tries == 2
    with pytest.raises(InvalidRequestError):
        await source(use(strict=True), formats)


async def test_no_parameters() -> None:
    """A function without parameters is called with an empty object."""
    tools = ToolPolicy((Function("f", NO_PARAMETERS, "tools"),))
    assert '"additionalProperties": false' in (await source(tools) or "")
