"""Whether the service takes work, as RPCs and health checks see it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from typing import Self

from grpc_health.v1.health import aio as health
from grpc_health.v1.health_pb2 import HealthCheckResponse

from rapport.service.engine.engine import Engine
from rapport.service.engine.sampling.constraint import GrammarCompiler
from rapport.service.errors import NotReadyError
from rapport.service.interceptors.in_flight import InFlightRequests
from rapport.service.prompt.prompt import PromptReader
from rapport.service.rpc.service_names import CHAT_SERVICE, MODEL_SERVICE
from rapport.service.structured_output.compiler import FormatCompiler

# Names that probes ask for. Work should come while the former serve; while the latter does not,
# the process should be restarted.
READINESS = ("", CHAT_SERVICE, MODEL_SERVICE)
LIVENESS = "liveness"


class State(Enum):
    LOADING = auto()
    SERVING = auto()
    DRAINING = auto()
    DEAD = auto()


@dataclass(frozen=True, slots=True)
class Served:
    """A loaded model and what is needed to ask it."""

    engine: Engine
    prompts: PromptReader
    formats: FormatCompiler
    grammars: GrammarCompiler

    @classmethod
    def load(cls, folder: Path, engine: Engine) -> Self:
        """Reads what is needed to ask an engine from the folder that it was loaded from."""
        vocabulary = engine.vocabulary
        prompts = PromptReader.load(folder, vocabulary, engine.context_length)
        tokenizer = (folder / "tokenizer.json").read_text(encoding="utf-8")
        grammars = GrammarCompiler(tokenizer, vocabulary.size, engine.spec.eos_token_ids)
        return cls(engine, prompts, FormatCompiler(grammars), grammars)

    @property
    def model(self) -> str:
        return self.engine.spec.id


class Lifecycle:
    """Loading, then serving, then leaving, then closed for good."""

    def __init__(self) -> None:
        self.health = health.HealthServicer()
        self.in_flight = InFlightRequests()
        self.state = State.LOADING
        self.loaded: Served | None = None
        """The model, once it is loaded; also when no more work is taken."""
        self._served: Served | None = None
        self._leaving = False
        self._reason = "The model is loading"

    @property
    def served(self) -> Served:
        """The model that is served.

        Raises:
            NotReadyError: not yet, or no longer.
        """
        if self._served is None:
            raise NotReadyError(self._reason)
        return self._served

    async def begin(self) -> None:
        """Says that the service is there and cannot work yet."""
        await self.health.set(LIVENESS, HealthCheckResponse.SERVING)
        await self._announce(HealthCheckResponse.NOT_SERVING)

    async def open(self, served: Served) -> None:
        """Takes work from now on, unless it is leaving already."""
        self.loaded = served
        if not self._leaving:
            self._served = served
            self.state = State.SERVING
            await self._announce(HealthCheckResponse.SERVING)

    async def leave(self) -> None:
        """Tells probes that no more work should come; what comes is still taken."""
        self._leaving = True
        await self._announce(HealthCheckResponse.NOT_SERVING)

    async def close(self, reason: str, state: State = State.DRAINING) -> None:
        """Takes no new work from now on; what runs goes on."""
        self.state = state
        self._served = None
        self._reason = reason
        await self.leave()

    async def die(self) -> None:
        """Takes no new work, and tells probes that the process is of no more use."""
        await self.close("The engine died", State.DEAD)
        await self.health.set(LIVENESS, HealthCheckResponse.NOT_SERVING)

    async def _announce(self, status: int) -> None:
        for name in READINESS:
            await self.health.set(name, status)
