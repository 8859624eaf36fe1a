"""A well-behaved caller in a process of its own: short chats, health checks, scrapes, all timed.

BYSTANDER_KEY=… python -m tests.hostile.bystander REST GRPC SERVICE_METRICS GATEWAY_METRICS

It writes a line of JSON for each measurement, `[kind, end, seconds]` or `["failure", end, text]`.
Times are those of the monotonic clock. When its input ends it finishes what it has begun and ends.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable
from itertools import count
from time import perf_counter
from typing import Any

import grpc
import httpx
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from bench.clients import Client, GrpcClient, RestClient
from bench.errors import RequestFailedError
from bench.measure import Record
from bench.workload import Workload
from tests.plain_http import NO_CERTIFICATES
from tests.service.requests import MODEL

KEY = "BYSTANDER_KEY"
MAX_CALL_S = 60
MAX_REASON_CHARS = 200
CHAT_PAUSE_S, HEALTH_PAUSE_S, SCRAPE_PAUSE_S = 0.05, 0.1, 0.5
WORKLOAD = Workload(MODEL, prompt_tokens=24, max_tokens=8, temperature=0, seed=1)


def report(kind: str, value: float | str) -> None:
    sys.stdout.write(json.dumps([kind, perf_counter(), value]) + "\n")
    sys.stdout.flush()


class Loop:
    """Repeats calls until it is stopped."""

    def __init__(self) -> None:
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        self._stopping.set()

    async def repeat(self, kind: str, pause: float, call: Callable[[], Awaitable[None]]) -> None:
        """Failures and calls over `MAX_CALL_S` are reported, and the next one is made."""
        while not self._stopping.is_set():
            try:
                async with asyncio.timeout(MAX_CALL_S):
                    await call()
            except TimeoutError:
                report("failure", f"{kind}: no answer in {MAX_CALL_S} s")
            except (RequestFailedError, httpx.HTTPError, grpc.aio.AioRpcError) as error:
                report("failure", f"{kind}: {error!r}")
            await asyncio.sleep(pause)


def chats(kind: str, client: Client) -> Callable[[], Awaitable[None]]:
    """One streamed chat after the other."""
    numbers = count()

    async def call() -> None:
        record = Record(perf_counter())
        await client.complete(WORKLOAD.request(next(numbers)), record)
        report(f"{kind} ttft", record.ttft or 0)
        report(f"{kind} gap", max(record.gaps, default=0))

    return call


def rest_get(kind: str, url: str) -> Callable[[], Awaitable[None]]:
    """A request on a connection of its own, as probes make them."""
    limits = httpx.Limits(max_keepalive_connections=0)
    http = httpx.AsyncClient(
        timeout=MAX_CALL_S, trust_env=False, limits=limits, verify=NO_CERTIFICATES
    )

    async def call() -> None:
        began = perf_counter()
        response = await http.get(url)
        if not response.is_success:
            raise RequestFailedError(f"{response.status_code}: {response.text[:MAX_REASON_CHARS]}")
        report(kind, perf_counter() - began)

    return call


def grpc_health(target: str) -> Callable[[], Awaitable[None]]:
    channel = grpc.aio.insecure_channel(target, [("grpc.enable_http_proxy", 0)])
    stub: Any = HealthStub(channel)  # its types know no asyncio

    async def call() -> None:
        began = perf_counter()
        answer = await stub.Check(HealthCheckRequest())
        if answer.status != HealthCheckResponse.SERVING:
            raise RequestFailedError(HealthCheckResponse.ServingStatus.Name(answer.status))
        report("grpc health", perf_counter() - began)

    return call


async def run(rest: str, grpc_target: str, *metrics: str) -> None:
    """Calls until the input ends."""
    loop, key = Loop(), os.environ[KEY]
    asyncio.get_running_loop().add_reader(sys.stdin, loop.stop)
    async with asyncio.TaskGroup() as tasks:
        for kind, pause, call in (
            ("rest chat", CHAT_PAUSE_S, chats("rest", RestClient(rest, key))),
            ("grpc chat", CHAT_PAUSE_S, chats("grpc", GrpcClient(grpc_target, key))),
            ("rest health", HEALTH_PAUSE_S, rest_get("rest health", f"{rest}/health")),
            ("grpc health", HEALTH_PAUSE_S, grpc_health(grpc_target)),
            *(("scrape", SCRAPE_PAUSE_S, rest_get("scrape", url)) for url in metrics),
        ):
            tasks.create_task(loop.repeat(kind, pause, call))


if __name__ == "__main__":
    asyncio.run(run(*sys.argv[1:]))
