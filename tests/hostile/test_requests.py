"""Requests with a valid key that are as much work as one may be."""

from __future__ import annotations

from tests.hostile.attacked import Attacked
from tests.hostile.attacks import chats, disconnects


def test_large_requests(attacked: Attacked) -> None:
    """Schemas that nest, half a million mistakes, and as many tools as there may be."""
    key = attacked.keys["greedy"]
    with attacked.beside():
        chats.deep_json(attacked.rest, key, depth=95, count=4)
        chats.many_mistakes(attacked.rest, key, items=500_000, count=2)
        chats.many_tools(attacked.rest, key, count=2, tools=128, properties=50)


def test_many_choices(attacked: Attacked) -> None:
    """Far more choices than there are slots, costly tokens, and callers that leave at once."""
    key = attacked.keys["greedy"]
    with attacked.beside():
        chats.large_n(attacked.rest, key, n=24, max_tokens=4)
        chats.heavy_sampling(attacked.rest, key, count=3, n=2, max_tokens=8)
        disconnects.leave_rest(attacked.rest, key, count=10, seed=1)
        disconnects.leave_grpc(attacked.grpc, key, count=10, seed=1)
