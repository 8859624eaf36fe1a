from __future__ import annotations

import pytest

from rapport.service.engine.generation import Generation
from rapport.service.engine.request import Delta, GenerationRequest, Tenant
from rapport.service.interceptors.context import RequestContext, current, set_current
from rapport.service.keys.key_store import Key
from rapport.service.keys.limits import KeyLimits
from rapport.service.keys.rate_limiter import RateLimiter
from tests.service.fakes import request_context

METHOD = "/rapport.v1.ChatService/CreateChatCompletion"


@pytest.fixture
def context() -> RequestContext:
    return request_context(METHOD, "id")


@pytest.fixture
def generation(context: RequestContext) -> Generation:
    context.generation = Generation(GenerationRequest((1, 2, 3), 9), lambda _: None)
    return context.generation


def test_context_of_nothing_generated_is_empty(context: RequestContext) -> None:
    """An RPC that never asked the engine used no tokens, and has no times of them."""
    assert (context.prompt_tokens, context.cached_tokens, context.completion_tokens) == (0, 0, 0)
    assert (context.queue_s, context.ttft_s, context.itl_s) == (None, None, None)


def test_request_that_waits_has_a_prompt_and_no_times(
    context: RequestContext, generation: Generation
) -> None:
    """What was asked counts before anything is answered."""
    assert context.prompt_tokens == len(generation.request.prompt)
    assert (context.queue_s, context.ttft_s, context.itl_s) == (None, None, None)


def test_times_follow_the_tokens(context: RequestContext, generation: Generation) -> None:
    """Queue, first token and the pace of the rest are told apart."""
    generation.started_at = generation.submitted_at + 1
    generation.add(Delta(0, "a", [1]))
    assert context.itl_s is None
    generation.add(Delta(0, "bc", [2, 3]))
    generation.first_token_at, generation.last_token_at = (
        context.arrived_at + 2,
        context.arrived_at + 5,
    )
    assert context.queue_s == pytest.approx(1)
    assert context.ttft_s == pytest.approx(2)
    assert context.itl_s == pytest.approx(1.5)
    assert context.completion_tokens == 3


def test_current_context_is_the_one_that_was_set(context: RequestContext) -> None:
    """Within an RPC its context can be had anywhere."""
    set_current(context)
    assert current() is context


def test_prompt_is_charged_when_it_is_submitted(
    context: RequestContext, generation: Generation
) -> None:
    """The tokens of the prompt are taken from the quota before any token is generated."""
    key = Key("", KeyLimits(prompt_tokens_per_minute=10))
    context.quota = RateLimiter().quota(key)
    context.generation = None
    context.set_generation(generation)
    assert context.quota.headers()["x-ratelimit-remaining-tokens-prompt"] == "7"


def test_a_tenant_is_a_user_of_a_key(context: RequestContext) -> None:
    """Without a key all users share one, and nobody passes for a user of another key."""
    context.user_hash = "ann"
    assert context.tenant == Tenant("", "ann")
    context.key = Key("k1", KeyLimits())
    assert context.tenant == Tenant("k1", "ann")


@pytest.mark.parametrize(
    ("peer", "caller"),
    [
        ("ipv4:192.0.2.1:5000", "ipv4:192.0.2.1"),
        ("ipv6:%5B2001:db8::1%5D:5000", "ipv6:%5B2001:db8::1%5D"),
        ("unix:", "unix"),
        ("unix:/tmp/socket", "unix"),
    ],
)
def test_a_caller_is_a_key_or_a_host(peer: str, caller: str) -> None:
    """Connections of one host are one caller, and so are keys over different connections."""
    context = request_context()
    context.rpc.peer = lambda: peer  # type: ignore[method-assign]
    assert context.caller == caller
    context.key = Key("k1", KeyLimits())
    assert context.caller == "k1"
