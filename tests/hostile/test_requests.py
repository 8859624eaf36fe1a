"""Requests with a valid key that are as much work as one may be."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from tests.hostile.attacked import Attacked
from tests.hostile.attacks import chats, disconnects

DIGITS = 1_000_000
# A word takes 300 MB while it is tokenized, and its answer a part of that.
MAX_GROWTH_BYTES = 600 << 20


def test_large_requests(attacked: Attacked) -> None:
    """Schemas that nest, half a million mistakes, and as many tools as there may be."""
    key = attacked.keys["greedy"]
    with attacked.beside():
        chats.deep_json(attacked.rest, key, depth=95, count=4)
        chats.many_mistakes(attacked.rest, key, items=500_000, count=2)
        chats.many_tools(attacked.rest, key, count=2, tools=128, properties=50)


def test_long_texts(attacked: Attacked) -> None:
    """Words as long as a request may be, of two keys at once, and conversations to be cut."""
    first, second = attacked.keys["greedy"], attacked.keys["second"]
    with attacked.beside(max_growth_bytes=MAX_GROWTH_BYTES), ThreadPoolExecutor(3) as pool:
        attacks = [
            pool.submit(chats.long_tokenizations, attacked.rest, key, count=1, digits=DIGITS)
            for key in (first, second)
        ]
        attacks.append(
            pool.submit(chats.long_truncations, attacked.rest, first, count=4, turns=40, words=3000)
        )
        for attack in attacks:
            attack.result()


def test_many_choices(attacked: Attacked) -> None:
    """Far more choices than there are slots, costly tokens, and callers that leave at once."""
    key = attacked.keys["greedy"]
    with attacked.beside():
        chats.large_n(attacked.rest, key, n=24, max_tokens=4)
        chats.heavy_sampling(attacked.rest, key, count=3, n=2, max_tokens=8)
        disconnects.leave_rest(attacked.rest, key, count=10, seed=1)
        disconnects.leave_grpc(attacked.grpc, key, count=10, seed=1)
