"""Services and gateways behind the real Envoy, and callers that note what becomes of requests."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx

from bench.server import free_ports
from rapport.cli.scrape import scrape
from rapport.v1.chat_pb2_grpc import ChatServiceStub
from tests.scale.test_drain import body
from tests.service.requests import chat
from tools.replicas.envoy import healthy
from tools.replicas.state import Ports, State

LIMIT_S = 120
TOKENS = 8
REPLICAS = 3


@dataclass(frozen=True)
class Replicas:
    """Where they answer, and their processes."""

    state: State
    ports: Ports
    settings: Mapping[str, str]

    @property
    def rest(self) -> str:
        return f"http://127.0.0.1:{self.ports.rest}"

    @property
    def grpc(self) -> str:
        return f"127.0.0.1:{self.ports.grpc}"

    def pid(self, name: str) -> int:
        return self.state.parts()[name]

    def restart(self) -> None:
        """Restarts all parts but Envoy, one after the other."""
        command("restart", self.settings)

    def serving(self) -> int:
        """How many services get requests of every kind."""
        seen = healthy(self.ports.admin)
        return min(seen.get(name, 0) for name in ("keyed", "keyless"))

    def totals(self, name: str, **labels: str) -> list[float]:
        """A metric of each service."""
        urls = [f"http://127.0.0.1:{port}/metrics" for port in self.ports.service_metrics]
        return [scrape(url).total(name, **labels) for url in urls]


def command(name: str, settings: Mapping[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tools.replicas", name],
        env=os.environ | settings,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@contextmanager
def replicas(folder: Path, model: Path, **settings: object) -> Iterator[Replicas]:
    """Starts them with settings by their names."""
    rest, port = free_ports(2)
    given = {
        "folder": folder,
        "model_folder": model,
        "http_port": rest,
        "grpc_port": port,
        "replicas": REPLICAS,
    } | settings
    named = {f"RAPPORT_{name.upper()}": str(value) for name, value in given.items()}
    command("up", named)
    state = State(folder)
    try:
        ports = state.ports()
        assert ports is not None
        yield Replicas(state, ports, named)
    finally:
        command("down", named)


def until(condition: Callable[[], bool], limit_s: float = LIMIT_S) -> float:
    """Waits for it. Returns the seconds that took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() < began + limit_s
        time.sleep(0.05)
    return time.monotonic() - began


class Callers:
    """Ask in four ways, and note what became of each request: whole, or how it failed."""

    def __init__(self, http: httpx.AsyncClient, stub: ChatServiceStub) -> None:
        self.outcomes: Counter[str] = Counter()
        self._http = http
        self._stub: Any = stub

    async def rest(self, text: str) -> str:
        reply = await self._http.post("/v1/chat/completions", json=_body(text))
        return "whole" if reply.status_code == httpx.codes.OK else f"rest {reply.status_code}"

    async def rest_stream(self, text: str) -> str:
        asked = _body(text) | {"stream": True}
        reply = await self._http.post("/v1/chat/completions", json=asked)
        if reply.status_code != httpx.codes.OK:
            return f"rest {reply.status_code}"
        return "whole" if reply.text.endswith("data: [DONE]\n\n") else f"cut {reply.text[-300:]}"

    async def grpc(self, text: str) -> str:
        await self._stub.CreateChatCompletion(chat(text, max_tokens=TOKENS, ignore_eos=True))
        return "whole"

    async def grpc_stream(self, text: str) -> str:
        request = chat(text, max_tokens=TOKENS, ignore_eos=True)
        pieces = [piece async for piece in self._stub.StreamChatCompletion(request)]
        return "whole" if pieces[-1].usage.completion_tokens == TOKENS else "short"

    async def ask(self, way: str, text: str) -> None:
        try:
            outcome = await getattr(self, way)(text)
        except grpc.aio.AioRpcError as error:
            outcome = f"grpc {error.code().name} {error.details()}"
        except httpx.TransportError as error:
            outcome = f"rest {type(error).__name__}"
        self.outcomes[outcome] += 1

    async def keep_asking(self, until: asyncio.Event, streams: int = 2) -> None:
        """A steady load: so many of each way at a time."""

        async def one(way: str, number: int) -> None:
            count = 0
            while not until.is_set():
                count += 1
                await self.ask(way, f"{way} {number} {count}")

        ways = ("rest", "rest_stream", "grpc", "grpc_stream")
        await asyncio.gather(*(one(way, number) for way in ways for number in range(streams)))


def _body(text: str) -> dict[str, Any]:
    return body(text) | {"max_tokens": TOKENS}


@asynccontextmanager
async def callers(running: Replicas) -> AsyncIterator[Callers]:
    async with (
        httpx.AsyncClient(base_url=running.rest, timeout=LIMIT_S, trust_env=False) as http,
        grpc.aio.insecure_channel(running.grpc) as channel,
    ):
        yield Callers(http, ChatServiceStub(channel))
