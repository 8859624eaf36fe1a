"""Calls that never bring a request: they use up the places of their own key alone."""

from __future__ import annotations

import pytest

from tests.hostile.attacked import Attacked
from tests.hostile.attacks.rpcs import calls_without_message


@pytest.mark.parametrize("name", ["limited", "greedy"])
def test_calls_without_a_message(attacked: Attacked, name: str) -> None:
    """Hundreds, over many connections, with a key that has limits and with one that has none."""
    key = attacked.keys[name]
    with attacked.beside() as bystander:
        calls_without_message(attacked.grpc, key, clients=4, calls=200, seconds=1)
        bystander.wait()


def test_two_keys_at_once(attacked: Attacked) -> None:
    """Each may have as many places as are left, so that there are always some."""
    with attacked.beside():
        for name in ("greedy", "second"):
            key = attacked.keys[name]
            calls_without_message(attacked.grpc, key, clients=2, calls=300, seconds=1)
