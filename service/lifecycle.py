"""Whether the service takes work, as RPCs and health checks see it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from typing import Self

from grpc_health.v1.health import aio as health
from grpc_health.v1.health_pb2 import HealthCheckResponse

from service.engine.constraint import GrammarCompiler
from service.engine.engine import Engine
from service.errors import NotReady
from service.formats.compiler import FormatCompiler
from service.prompt.prompt import PromptReader

CHAT_SERVICE = "rapport.v1.ChatService"
MODEL_SERVICE = "rapport.v1.ModelService"
STATUS_SERVICE = "rapport.v1.StatusService"


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
    """Loading, then serving, then closed for good."""

    def __init__(self) -> None:
        self.health = health.HealthServicer()
        self.state = State.LOADING
        self.loaded: Served | None = None
        """The model, once it is loaded; also when no more work is taken."""
        self._served: Served | None = None
        self._reason = "The model is loading"

    @property
    def served(self) -> Served:
        """The model that is served.

        Raises:
            NotReady: not yet, or no longer.
        """
        if self._served is None:
            raise NotReady(self._reason)
        return self._served

    async def begin(self) -> None:
        """Says that the service is there and cannot work yet."""
        await self._announce(HealthCheckResponse.NOT_SERVING)

    async def open(self, served: Served) -> None:
        """Takes work from now on."""
        self._served = self.loaded = served
        self.state = State.SERVING
        await self._announce(HealthCheckResponse.SERVING)

    async def close(self, reason: str, state: State = State.DRAINING) -> None:
        """Takes no new work from now on; what runs goes on."""
        self.state = state
        await self.health.enter_graceful_shutdown()
        self._served = None
        self._reason = reason

    async def _announce(self, status: int) -> None:
        for name in ("", CHAT_SERVICE, MODEL_SERVICE):
            await self.health.set(name, status)
