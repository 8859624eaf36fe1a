from __future__ import annotations

import pytest

from rapport.service.engine.generation import Generation
from rapport.service.engine.request import Delta, GenerationRequest, Tenant
from rapport.service.interceptors.account import Account, begin, current

METHOD = "/rapport.v1.ChatService/CreateChatCompletion"


@pytest.fixture
def account() -> Account:
    return Account(METHOD, "id")


@pytest.fixture
def generation(account: Account) -> Generation:
    account.generation = Generation(GenerationRequest((1, 2, 3), 9), lambda _: None)
    return account.generation


def test_account_of_nothing_generated_is_empty(account: Account) -> None:
    """An RPC that never asked the engine used no tokens, and has no times of them."""
    assert (account.prompt_tokens, account.cached_tokens, account.completion_tokens) == (0, 0, 0)
    assert (account.queued, account.ttft, account.itl) == (None, None, None)


def test_request_that_waits_has_a_prompt_and_no_times(
    account: Account, generation: Generation
) -> None:
    """What was asked counts before anything is answered."""
    assert account.prompt_tokens == len(generation.request.prompt)
    assert (account.queued, account.ttft, account.itl) == (None, None, None)


def test_times_follow_the_tokens(account: Account, generation: Generation) -> None:
    """Queue, first token and the pace of the rest are told apart."""
    generation.begun_at = generation.submitted_at + 1
    generation.add(Delta(0, "a", [1]))
    assert account.itl is None
    generation.add(Delta(0, "bc", [2, 3]))
    generation.first_at, generation.last_at = account.arrived + 2, account.arrived + 5
    assert account.queued == pytest.approx(1)
    assert account.ttft == pytest.approx(2)
    assert account.itl == pytest.approx(1.5)
    assert account.completion_tokens == 3


def test_current_account_is_the_begun_one(account: Account) -> None:
    """Within an RPC its account can be had anywhere."""
    begin(account)
    assert current() is account


def test_who_asked_hears_when_the_prompt_is_known(account: Account, generation: Generation) -> None:
    """With the generation comes the word that there is one."""
    told: list[int] = []
    account.on_submit = lambda: told.append(account.prompt_tokens)
    account.submitted(generation)
    assert told == [3]


def test_a_tenant_is_a_user_of_a_key(account: Account) -> None:
    """Without a key all users share one, and nobody passes for a user of another key."""
    account.user = "ann"
    assert account.tenant == Tenant("", "ann")
    account.key_id = "k1"
    assert account.tenant == Tenant("k1", "ann")
