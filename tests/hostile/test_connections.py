"""Connections that send noise, or ask for more than they read."""

from __future__ import annotations

import grpc

from rapport.v1.chat_pb2_grpc import ChatServiceStub
from tests.contract.callers import chat, to_proto
from tests.hostile.attacked import Attacked, Memory, wait_until
from tests.hostile.attacks import junk, keys, rpcs, unread
from tests.hostile.bystander import MAX_CALL_S

# Of calls that wait to be accepted.
MAX_WAITING_BYTES = 220 << 20


def test_noise_and_resets(attacked: Attacked) -> None:
    """Bytes that are no request on all four ports, and thousands of calls that are cancelled."""
    target = attacked.target
    addresses = (target.rest, target.grpc, target.service_metrics, target.gateway_metrics)
    with attacked.beside():
        for seed, address in enumerate(addresses):
            junk.noise(str(address), clients=20, size_bytes=50_000, seed=seed)
        for path in (rpcs.CREATE_CHAT, rpcs.WATCH, rpcs.REFLECTION):
            rpcs.resets(attacked.grpc, attacked.keys["greedy"], count=3000, path=path)


def test_resets_on_two_connections(attacked: Attacked) -> None:
    """More calls wait to be accepted than gRPC keeps by default; none of the others is dropped."""
    with attacked.beside():
        key, path = attacked.keys["greedy"], rpcs.STREAM_CHAT  # the method of others
        rpcs.resets(attacked.grpc, key, count=3000, clients=2, path=path)


def test_memory_of_calls_that_wait(attacked: Attacked) -> None:
    """More connections than whose calls gRPC keeps: what waits to be accepted is bounded."""
    key, memory = attacked.keys["greedy"], Memory(attacked.server.pid)
    rpcs.resets(attacked.grpc, key, count=1500, clients=32)
    with grpc.insecure_channel(attacked.grpc) as channel:
        stub = ChatServiceStub(channel)
        wait_until(lambda: is_answered(stub, key), "the calls that waited are gone")
    assert max(memory.growth_bytes().values()) <= MAX_WAITING_BYTES, memory.growth_bytes()


def is_answered(stub: ChatServiceStub, key: str) -> bool:
    """False where gRPC has dropped the call."""
    metadata = tuple(rpcs.credentials(key).items())
    try:
        stub.CreateChatCompletion(
            to_proto(chat(max_tokens=1)), metadata=metadata, timeout=MAX_CALL_S
        )
    except grpc.RpcError:
        return False
    return True


def test_unread_pages_and_wrong_keys(attacked: Attacked) -> None:
    """Pages that nobody reads, and large requests with keys that nobody has, take little memory."""
    with attacked.beside(max_growth_bytes=64 << 20):
        unread.unread_pages(attacked.rest, count=50, pages=20, seconds=1)
        keys.wrong_keys(attacked.rest, count=10, size_bytes=1 << 20, seed=1)


def test_idle_connections_and_crowds(attacked: Attacked) -> None:
    """Hundreds of connections that do nothing, or ask for the health all at once."""
    with attacked.beside(max_growth_bytes=64 << 20):
        rpcs.idle_connections(attacked.grpc, clients=500, seconds=1)
        unread.crowd(attacked.rest, count=200, seconds=1)
