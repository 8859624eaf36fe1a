"""Calls that never bring a request: they use up the places of their own key alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.hostile.attacked import Attacked, wait_until
from tests.hostile.attacks.rpcs import held_calls
from tests.hostile.conftest import Serve

CALLS = 800
MIN_REFUSED = 300
# Longer than a test, so that no call is refused for its time.
READ_TIMEOUT_S = 300


@pytest.fixture(scope="module")
def attacked(serve: Serve) -> Iterator[Attacked]:
    """A server that waits for requests."""
    with serve(read_timeout=READ_TIMEOUT_S) as running:
        yield running


@pytest.mark.parametrize("names", [("limited",), ("greedy",), ("greedy", "second")], ids="+".join)
def test_calls_without_a_message(attacked: Attacked, names: tuple[str, ...]) -> None:
    """Hundreds at once, with limits and without: many of them are refused, and no other call."""
    before = refused(attacked)
    with attacked.beside() as bystander, ExitStack() as held:
        for name in names:
            key, clients = attacked.keys[name], 4 // len(names)
            held.enter_context(held_calls(attacked.grpc, key, clients=clients, calls=CALLS // 4))
        wait_until(lambda: refused(attacked) - before >= MIN_REFUSED, "calls are refused")
        bystander.wait()


def refused(attacked: Attacked) -> float:
    """How many calls were refused."""
    return attacked.sums()["rapport_refused_requests_total"]
