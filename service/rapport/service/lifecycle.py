"""The states of the service, as RPCs and health checks see them."""

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
from rapport.service.prompt.prompt_encoder import PromptEncoder
from rapport.service.rpc.service_names import CHAT_SERVICE, MODEL_SERVICE
from rapport.service.structured_output.compiler import FormatCompiler

# The names that probes ask for. While a readiness name fails, no requests should be sent; while
# liveness fails, the process should be restarted.
READINESS = ("", CHAT_SERVICE, MODEL_SERVICE)
LIVENESS = "liveness"


class State(Enum):
    LOADING = auto()
    SERVING = auto()
    DRAINING = auto()
    DEAD = auto()


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A loaded model and what is needed to make requests for its engine."""

    engine: Engine
    prompts: PromptEncoder
    formats: FormatCompiler
    grammars: GrammarCompiler

    @classmethod
    def load(cls, folder: Path, engine: Engine) -> Self:
        """Loads the rest from the folder that the engine was loaded from."""
        vocabulary = engine.vocabulary
        prompts = PromptEncoder.load(folder, vocabulary, engine.context_length)
        tokenizer = (folder / "tokenizer.json").read_text(encoding="utf-8")
        grammars = GrammarCompiler(tokenizer, vocabulary.size, engine.spec.eos_token_ids)
        return cls(engine, prompts, FormatCompiler(grammars), grammars)

    @property
    def model(self) -> str:
        """The id of the model."""
        return self.engine.spec.id


class Lifecycle:
    """Loading, then serving, then draining or dead. It never serves again after that."""

    def __init__(self) -> None:
        self.health = health.HealthServicer()
        self.in_flight = InFlightRequests()
        self.state = State.LOADING
        self.loaded: ServedModel | None = None
        """The model, once it is loaded; also when requests are no longer admitted."""
        self._served: ServedModel | None = None
        self._shutting_down = False
        self._refusal = "The model is loading"

    @property
    def served(self) -> ServedModel:
        """The model, while requests are admitted.

        Raises:
            NotReadyError: requests are not admitted yet, or no longer.
        """
        if self._served is None:
            raise NotReadyError(self._refusal)
        return self._served

    async def start_loading(self) -> None:
        """Sets the health of a live service that is not ready."""
        await self.health.set(LIVENESS, HealthCheckResponse.SERVING)
        await self._set_readiness(HealthCheckResponse.NOT_SERVING)

    async def start_serving(self, served: ServedModel) -> None:
        """Admits requests from now on, unless the service is shutting down already."""
        self.loaded = served
        if not self._shutting_down:
            self._served = served
            self.state = State.SERVING
            await self._set_readiness(HealthCheckResponse.SERVING)

    async def fail_readiness(self) -> None:
        """Fails the readiness checks; requests are still admitted."""
        self._shutting_down = True
        await self._set_readiness(HealthCheckResponse.NOT_SERVING)

    async def stop_admitting(self, reason: str, state: State = State.DRAINING) -> None:
        """Refuses new requests from now on, with `reason`; those in flight go on."""
        self.state = state
        self._served = None
        self._refusal = reason
        await self.fail_readiness()

    async def mark_dead(self) -> None:
        """Refuses new requests and fails the liveness check, because the engine died."""
        await self.stop_admitting("The engine died", State.DEAD)
        await self.health.set(LIVENESS, HealthCheckResponse.NOT_SERVING)

    async def _set_readiness(self, status: int) -> None:
        for name in READINESS:
            await self.health.set(name, status)
