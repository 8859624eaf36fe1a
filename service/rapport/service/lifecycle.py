"""The states of the service, as RPCs and health checks see them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from typing import Self

from grpc_health.v1.health_pb2 import HealthCheckResponse

from rapport.service.engine.engine import Engine
from rapport.service.engine.sampling.grammar_compiler import GrammarCompiler
from rapport.service.errors import ModelNotFoundError, NotReadyError
from rapport.service.interceptors.in_flight import InFlightRequests
from rapport.service.prompt.prompt_encoder import PromptEncoder
from rapport.service.request.model_names import is_among
from rapport.service.rpc.health_service import HealthService
from rapport.service.rpc.service_names import CHAT_SERVICE, COMPLETION_SERVICE, MODEL_SERVICE
from rapport.service.structured_output.compiler import FormatCompiler
from rapport.service.structured_output.isolated_compiler import IsolatedCompiler

# The names that probes ask for. While a readiness name fails, no requests should be sent; while
# liveness fails, the process should be restarted.
READINESS = ("", CHAT_SERVICE, COMPLETION_SERVICE, MODEL_SERVICE)
LIVENESS = "liveness"

SERVING, NOT_SERVING = HealthCheckResponse.SERVING, HealthCheckResponse.NOT_SERVING


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
    aliases: tuple[str, ...] = ()
    """Other names that requests may use."""

    @classmethod
    def load(cls, folder: Path, engine: Engine, aliases: tuple[str, ...] = ()) -> Self:
        """Loads the rest from the folder that the engine was loaded from."""
        vocabulary = engine.vocabulary
        prompts = PromptEncoder.load(folder, vocabulary, engine.context_length)
        tokenizer, ends = folder / "tokenizer.json", engine.spec.eos_token_ids
        # Its processes read the tokenizer themselves, at the same time.
        isolated = IsolatedCompiler(tokenizer, vocabulary.size, ends)
        isolated.start()
        grammars = GrammarCompiler(vocabulary, ends)
        return cls(engine, prompts, FormatCompiler(grammars, isolated), grammars, aliases)

    @property
    def model(self) -> str:
        """The id of the model."""
        return self.engine.spec.id

    @property
    def names(self) -> tuple[str, ...]:
        """The names that requests may use, the id first."""
        return self.model, *self.aliases

    def check_name(self, name: str) -> None:
        """Raises ModelNotFoundError for the name of another model."""
        if name and not is_among(self.names, name):
            raise ModelNotFoundError(*self.names)


class Lifecycle:
    """Loading, then serving, then draining or dead. It never serves again after that.

    A change waits for nobody, whoever watches it.
    """

    def __init__(self) -> None:
        self.health = HealthService(dict.fromkeys(READINESS, NOT_SERVING) | {LIVENESS: SERVING})
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

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the model; none before it is loaded."""
        return self.loaded.names if self.loaded is not None else ()

    def start_serving(self, served: ServedModel) -> None:
        """Admits requests from now on, unless the service is shutting down already."""
        self.loaded = served
        if not self._shutting_down:
            self._served = served
            self.state = State.SERVING
            self.health.set(SERVING, *READINESS)

    def fail_readiness(self) -> None:
        """Fails the readiness checks; requests are still admitted."""
        self._shutting_down = True
        self.health.set(NOT_SERVING, *READINESS)

    def stop_admitting(self, reason: str, state: State = State.DRAINING) -> None:
        """Refuses new requests from now on, with `reason`; those in flight go on."""
        self.state = state
        self._served = None
        self._refusal = reason
        self.fail_readiness()

    def mark_dead(self) -> None:
        """Refuses new requests and fails the liveness check, because the engine died."""
        self.stop_admitting("The engine died", State.DEAD)
        self.health.set(NOT_SERVING, LIVENESS)
