"""Callers are told apart by what cannot be invented."""

from __future__ import annotations

from rapport.gateway.callers import MAX_KNOWN, Callers
from tests.gateway.peers import exchange

KEY = {"authorization": "Bearer known"}


def test_invented_credentials_make_no_callers() -> None:
    """Whoever was never let in with them is known by the address; others by the credentials."""
    callers = Callers()
    strangers = [{"authorization": f"Bearer {number}"} for number in range(10)]
    names = {callers.name(exchange(**headers)) for headers in ({}, KEY, *strangers)}
    assert len(names) == 1
    callers.accept(exchange(**KEY))
    assert callers.name(exchange(**KEY)) not in names
    assert "known" not in callers.name(exchange(**KEY))
    assert {callers.name(exchange(**headers)) for headers in ({}, *strangers)} == names


def test_who_needs_no_credentials_is_known_by_the_address() -> None:
    callers = Callers()
    before = callers.name(exchange())
    callers.accept(exchange())
    assert callers.name(exchange()) == before


def test_those_that_came_lately_are_known() -> None:
    """So many of them that memory is bounded."""
    callers = Callers()
    for number in range(MAX_KNOWN + 1):
        callers.accept(exchange(authorization=str(number)))
        callers.accept(exchange(**KEY))
    address = callers.name(exchange())
    assert callers.name(exchange(authorization="0")) == address
    assert callers.name(exchange(authorization="1")) == address
    assert callers.name(exchange(authorization="2")) != address
    assert callers.name(exchange(**KEY)) != address
