from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rapport.service.engine.errors import Bound, OverloadedError
from rapport.service.engine.request import Tenant
from rapport.service.engine.scheduling.admission import (
    MAX_RETRY_S,
    MAX_SHARE_RATIO,
    MIN_RETRY_S,
    Admission,
    AdmissionLimits,
)
from rapport.service.engine.scheduling.fairness import CREDIT_TOKENS, ServiceLedger
from rapport.service.engine.scheduling.latency_model import LatencyModel
from rapport.service.engine.scheduling.load import Demand, EngineLoad

SLOTS = 2
GREEDY, LIGHT = Tenant("greedy"), Tenant("light")


def admission(
    requests: int = 100, tokens: int = 0, ttft: float = 0, ledger: ServiceLedger | None = None
) -> Admission:
    served = (ledger or ServiceLedger()).served
    return Admission(AdmissionLimits(requests, tokens, ttft), SLOTS, LatencyModel(0.05), served)


def busy(*waiting: Demand, running: int = SLOTS, of: Tenant = GREEDY) -> EngineLoad:
    """A load of which one tenant has all slots."""
    return EngineLoad(waiting=list(waiting), running=Counter({of: running}))


def asks(count: int, tenant: Tenant = GREEDY, tokens: int = 10) -> list[Demand]:
    return [Demand(tenant, tokens)] * count


def admitted(bounded: Admission, tenants: list[Tenant], tokens: int = 10) -> Counter[Tenant]:
    """How many requests of each tenant fill the line, where all come as they are listed."""
    load = busy()
    for tenant in tenants:
        try:
            bounded.check(Demand(tenant, tokens), load)
        except OverloadedError:
            continue
        load.waiting.append(Demand(tenant, tokens))
    return Counter(each.tenant for each in load.waiting)


def test_requests_that_wait_are_bounded() -> None:
    """Those that run do not count, nor those for which a slot is free."""
    bounded = admission(requests=3)
    bounded.check(Demand(GREEDY), busy(*asks(2, LIGHT)))
    bounded.check(Demand(GREEDY), busy(*asks(1, LIGHT), running=0))
    with pytest.raises(OverloadedError, match="too many requests") as refused:
        bounded.check(Demand(GREEDY), busy(*asks(3, LIGHT)))
    assert refused.value.bound is Bound.REQUESTS


def test_without_a_line_there_are_the_free_slots() -> None:
    """Of which those who are let in and have not begun take some."""
    bounded = admission(requests=0)
    bounded.check(Demand(LIGHT), busy(running=SLOTS - 1))
    for load in (busy(), busy(*asks(1), running=SLOTS - 1)):
        with pytest.raises(OverloadedError, match="no slot is free") as refused:
            bounded.check(Demand(LIGHT), load)
        assert refused.value.bound is Bound.REQUESTS


def test_one_tenant_leaves_room_for_others() -> None:
    """However many it asks for, at least a fifth of the line; and others find it."""
    line = admitted(admission(), [GREEDY] * 200 + [LIGHT] * 5)
    assert line[GREEDY] <= 100 * MAX_SHARE_RATIO / (1 + MAX_SHARE_RATIO)
    assert line[LIGHT] == 5


def test_inventing_users_takes_no_room_from_other_keys() -> None:
    """A key that names a user per request gets no more of the line than one that names none."""
    inventor = [Tenant("inventor", str(number)) for number in range(200)]
    line = admitted(admission(), [*inventor, *[LIGHT] * 5])
    assert line.total() - line[LIGHT] <= 100 * MAX_SHARE_RATIO / (1 + MAX_SHARE_RATIO)
    assert line[LIGHT] == 5


def test_one_user_leaves_room_for_others_of_the_key() -> None:
    ann, bob = Tenant("key", "ann"), Tenant("key", "bob")
    line = admitted(admission(), [ann] * 200 + [bob] * 2)
    assert line[bob] == 2


@given(st.lists(st.sampled_from([Tenant(k, u) for k in "abc" for u in "xy"]), max_size=200))
def test_the_line_is_never_longer_than_its_limit(arrivals: list[Tenant]) -> None:
    """And who has nothing in it is refused only where nothing is left."""
    bounded, load = admission(requests=10), busy()
    for tenant in arrivals:
        before = [each.tenant.key for each in load.waiting]
        try:
            bounded.check(Demand(tenant), load)
        except OverloadedError:
            assert tenant.key in before or len(before) == 10
        else:
            load.waiting.append(Demand(tenant))
    assert len(load.waiting) <= 10


def test_tokens_that_wait_are_bounded() -> None:
    """A prompt that finds nobody waiting is let in however long it is."""
    bounded = admission(tokens=100)
    bounded.check(Demand(GREEDY, 1000), busy())
    line = admitted(bounded, [GREEDY] * 20 + [LIGHT] * 20)
    assert line[GREEDY] == 8
    assert line[LIGHT] == 2
    with pytest.raises(OverloadedError, match="prompt tokens") as refused:
        bounded.check(Demand(LIGHT, 31), busy(*asks(7)))
    assert refused.value.bound is Bound.PROMPT_TOKENS


def test_the_first_token_must_be_near() -> None:
    near = admission(ttft=1)
    near.check(Demand(GREEDY, 20), busy(*asks(1), running=1))
    with pytest.raises(OverloadedError, match="the limit is 1 s") as refused:
        near.check(Demand(GREEDY, 20), busy(*asks(1, tokens=2000)))
    assert refused.value.bound is Bound.TTFT
    assert MIN_RETRY_S <= refused.value.retry_after <= MAX_RETRY_S


def test_an_idle_engine_takes_what_is_slow_by_itself() -> None:
    """Coming back later would not help it."""
    admission(ttft=0.001).check(Demand(GREEDY, 10_000), EngineLoad())


def test_the_first_token_is_later_behind_more() -> None:
    """It grows with what is read first and with those who get a slot before."""
    ahead = admission()
    forecasts = [ahead.ttft(Demand(GREEDY, 10), busy(*asks(count))) for count in range(6)]
    assert forecasts == sorted(set(forecasts))
    assert ahead.ttft(Demand(GREEDY, 500), EngineLoad()) > ahead.ttft(
        Demand(GREEDY, 10), EngineLoad()
    )
    assert ahead.ttft(Demand(GREEDY, 10), busy()) > ahead.ttft(Demand(GREEDY, 10), EngineLoad())


def test_the_line_of_another_is_not_waited_for() -> None:
    """Who has asked for nothing goes next, whatever another has in line."""
    ledger = ServiceLedger()
    ledger.enter(GREEDY)
    ledger.charge(GREEDY, prompt=round(CREDIT_TOKENS))
    ahead, load = admission(ledger=ledger), busy(*asks(50, tokens=1500))
    assert ahead.ttft(Demand(LIGHT, 100), load) <= 1.5 * ahead.ttft(Demand(LIGHT, 100), busy())
    assert ahead.ttft(Demand(GREEDY, 100), load) > 50


def test_who_was_served_more_waits_for_those_who_were_not() -> None:
    """Until the others have caught up, if they ask for as much."""
    ledger, other = ServiceLedger(), Tenant("other")
    for tenant in (LIGHT, other):
        ledger.enter(tenant)
    ahead, load = admission(ledger=ledger), busy(*asks(9, other, tokens=1000))
    even = ahead.ttft(Demand(LIGHT, 100), load)
    ledger.charge(LIGHT, prompt=5000)
    assert ahead.ttft(Demand(LIGHT, 100), load) > 10 * even


def test_a_key_waits_for_its_own_users() -> None:
    ahead = admission()
    ann, bob = Tenant("key", "ann"), Tenant("key", "bob")
    load = busy(*asks(20, ann, tokens=200))
    alone = ahead.ttft(Demand(bob, 100), busy())
    assert alone < ahead.ttft(Demand(bob, 100), load) < ahead.ttft(Demand(ann, 100), load)


def test_slow_requests_are_waited_for_longer() -> None:
    slow, quick = admission(), admission()
    for _ in range(50):
        slow.observe(20)
        quick.observe(0.1)
    load = busy(*asks(4))
    assert slow.ttft(Demand(GREEDY, 10), load) > 5 * quick.ttft(Demand(GREEDY, 10), load)


def test_those_that_run_tell_how_long_it_takes_before_any_has_ended() -> None:
    load = busy(*asks(4))
    load.age = 30.0
    assert admission().ttft(Demand(GREEDY, 10), load) > 30


def test_retry_after_is_when_a_place_is_free() -> None:
    """One is as soon as a request gives its slot back; later where turns go round."""
    full = admission(requests=3)
    for _ in range(50):
        full.observe(8)
    refused = []
    for line in (asks(3), [*asks(2), Demand(LIGHT)]):
        with pytest.raises(OverloadedError) as error:
            full.check(Demand(GREEDY), busy(*line))
        refused.append(error.value.retry_after)
    assert 8 / SLOTS - 0.1 <= refused[0] <= 1.5 * 8 / SLOTS
    assert refused[1] >= 1.3 * refused[0] / 1.5


def test_retry_after_is_bounded() -> None:
    hopeless = admission(ttft=0.001)
    with pytest.raises(OverloadedError) as refused:
        hopeless.check(Demand(GREEDY), busy(*asks(99, tokens=10**6)))
    assert MIN_RETRY_S <= refused.value.retry_after <= MAX_RETRY_S
