"""Loads: closed (a client sends when its last request has ended) and open (random arrivals)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from random import Random
from time import perf_counter

from bench.clients import Client
from bench.errors import RequestFailedError
from bench.measure import Record
from bench.workload import Request

Send = Callable[[float], Awaitable[Record]]
"""Sends the next request; the argument is by how many seconds it is late."""


@dataclass(frozen=True, slots=True)
class Closed:
    """`concurrency` clients, each of which sends its next request when its last has ended."""

    concurrency: int
    requests: int

    @property
    def name(self) -> str:
        return f"x{self.concurrency}"

    async def run(self, send: Send, until: float) -> list[Record]:
        """Sends the requests, but none after `until`, a time of `perf_counter`."""
        tickets = iter(range(self.requests))
        records: list[Record] = []

        async def client() -> None:
            for _ in tickets:
                if perf_counter() >= until:
                    return
                records.append(await send(0.0))

        async with asyncio.TaskGroup() as group:
            for _ in range(self.concurrency):
                group.create_task(client())
        return records


@dataclass(frozen=True, slots=True)
class Open:
    """Requests that arrive at random (Poisson), whether or not the server keeps up."""

    rate: float
    duration: float
    seed: int

    @property
    def name(self) -> str:
        return f"{self.rate:g}/s"

    def arrivals(self) -> list[float]:
        """The times at which requests arrive, in seconds from the start."""
        random = Random(self.seed)  # noqa: S311 - a workload, not a secret
        times: list[float] = []
        now = random.expovariate(self.rate)
        while now < self.duration:
            times.append(now)
            now += random.expovariate(self.rate)
        return times

    async def run(self, send: Send, until: float) -> list[Record]:
        """Sends the requests, but none after `until`, a time of `perf_counter`."""
        began = perf_counter()
        async with asyncio.TaskGroup() as group:
            tasks = []
            for arrival in self.arrivals():
                due = began + arrival
                if due >= until:
                    break
                await asyncio.sleep(due - perf_counter())
                tasks.append(group.create_task(_awaited(send(perf_counter() - due))))
        return [task.result() for task in tasks]


async def attempt(client: Client, request: Request, limit: float, late: float = 0.0) -> Record:
    """Sends a request, which may take at most `limit` seconds."""
    record = Record(perf_counter(), late)
    try:
        async with asyncio.timeout(limit):
            await client.complete(request, record)
    except TimeoutError:
        record.error = "out of time"
    except RequestFailedError as failed:
        record.error = str(failed)
    record.ended = perf_counter()
    return record


async def _awaited(record: Awaitable[Record]) -> Record:
    return await record
