"""Conversations find what they share in the cache of one replica, as they would on one machine."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from rapport.affinity import AFFINITY_HEADER, affinity_key
from rapport.v1.chat_pb2_grpc import ChatServiceStub
from tests.scale.replicas import Replicas, replicas
from tests.service.requests import chat, message

pytestmark = [pytest.mark.scale, pytest.mark.timeout(600)]

CONVERSATIONS, TURNS, SYSTEM_PROMPTS = 60, 4, 6
AT_A_TIME = 12
SYSTEM_CHARS, TURN_CHARS = 600, 60


@pytest.fixture(scope="module")
def running(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replicas]:
    with replicas(tmp_path_factory.mktemp("replicas"), tiny_folder) as started:
        yield started


class Chats:
    """All conversations, with one policy and a cache of their own."""

    def __init__(self, running: Replicas, policy: str) -> None:
        self.running = running
        self.policy = policy
        self._places = asyncio.Semaphore(AT_A_TIME)

    async def cached_share(self) -> float:
        """The share of their prompts' tokens that was cached."""
        cached, prompts = await self._hold(self._target())
        return cached / prompts

    def _target(self) -> str:
        if self.policy == "one replica":
            return f"127.0.0.1:{self.running.ports.services[0]}"
        return self.running.grpc

    async def _hold(self, target: str) -> tuple[int, int]:
        async with grpc.aio.insecure_channel(target) as channel:
            stub = ChatServiceStub(channel)
            counts = await asyncio.gather(
                *(self._converse(stub, number) for number in range(CONVERSATIONS))
            )
        return sum(cached for cached, _ in counts), sum(tokens for _, tokens in counts)

    async def _converse(self, stub: Any, number: int) -> tuple[int, int]:
        kind = number % SYSTEM_PROMPTS
        system = f"You are number {kind}. " * (SYSTEM_CHARS // 18)
        turns = [message("system", system)]
        cached = tokens = 0
        for turn in range(TURNS):
            turns.append(message("user", f"{number} asks {turn}: ".ljust(TURN_CHARS, "?")))
            request = chat(messages=turns, max_tokens=8, prompt_cache_isolation_key=self.policy)
            keyed = [(AFFINITY_HEADER, affinity_key(request))] if self.policy == "keys" else None
            async with self._places:
                reply = await stub.CreateChatCompletion(request, metadata=keyed)
            turns.append(message("assistant", reply.choices[0].message.content))
            cached += reply.usage.prompt_tokens_details.cached_tokens
            tokens += reply.usage.prompt_tokens
        return cached, tokens


async def test_hits_are_those_of_one_machine(running: Replicas) -> None:
    """With keys, three replicas find nine tenths of what one finds, and more than without."""
    shares = {
        policy: await Chats(running, policy).cached_share()
        for policy in ("one replica", "keys", "least request")
    }
    assert shares["keys"] >= 0.9 * shares["one replica"], shares
    assert shares["keys"] > shares["least request"], shares
