"""Runs several loads on one server, and measures each."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from itertools import count
from time import perf_counter
from typing import Self

import psutil

from bench.clients import Client, GrpcClient, RestClient
from bench.load import Closed, Open, attempt
from bench.measure import Record, Summary
from bench.processes import Resources, Watch
from bench.progress import show_progress
from bench.server import Target
from bench.workload import Workload


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits on the duration of a run, in seconds."""

    request: float
    scenario: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """One protocol under one load."""

    protocol: str
    load: Closed | Open
    summary: Summary
    resources: dict[str, Resources]
    cut_short: bool
    """Whether the time limit came before all requests were sent."""

    @property
    def name(self) -> str:
        return f"{self.protocol} {self.load.name}"


class Session:
    """The clients of one server. Every request of a session has a prompt of its own."""

    def __init__(self, target: Target, workload: Workload, limits: Limits, key: str | None) -> None:
        self.clients: dict[str, Client] = {}
        if target.rest:
            self.clients["rest"] = RestClient(target.rest, key)
        if target.grpc:
            self.clients["grpc"] = GrpcClient(target.grpc, key)
        self._target = target
        self._workload = workload
        self._limits = limits
        self._numbers = count()

    async def __aenter__(self) -> Self:
        self._stack = AsyncExitStack()
        for client in self.clients.values():
            self._stack.push_async_callback(client.close)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def send(
        self, protocol: str, late: float = 0.0, *, until: float | None = None, max_tokens: int = 0
    ) -> Record:
        """Sends one request, which ends at `until` at the latest."""
        request = self._workload.request(next(self._numbers), max_tokens or None)
        left = self._limits.request if until is None else until - perf_counter()
        limit = min(self._limits.request, left)
        return await attempt(self.clients[protocol], request, limit, late)

    async def warm_up(self, protocols: Sequence[str], requests: int) -> None:
        """Sends requests that are not counted."""
        for protocol in protocols:
            await asyncio.gather(*(self.send(protocol) for _ in range(requests)))

    async def measure(self, protocol: str, load: Closed | Open) -> Outcome:
        """Runs one load over one protocol."""
        show_progress(f"{protocol} {load.name}")
        until = perf_counter() + self._limits.scenario
        parts = self._target.parts() | {"bench": [psutil.Process()]}
        async with Watch(parts) as watch:
            records = await load.run(partial(self.send, protocol, until=until), until)
        wanted = load.requests if isinstance(load, Closed) else len(load.arrivals())
        cut_short = len(records) < wanted
        return Outcome(protocol, load, Summary.of(records), watch.resources, cut_short)
