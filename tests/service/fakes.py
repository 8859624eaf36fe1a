"""An engine that says what a test tells it to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from types import SimpleNamespace

from service.engine.engine import Engine
from service.engine.errors import EngineError
from service.engine.generation import Generation
from service.engine.request import Delta, FinishReason, GenerationRequest
from service.lifecycle import Served
from service.prompt.prompt import PromptReader
from tests.service.requests import MODEL

CONTEXT = 100
VOCABULARY = 1000


class ScriptedEngine:
    """Gives every request the same deltas, then fails with `error` if it has one.

    A script without an end leaves the request running until it is cancelled.
    """

    def __init__(self, script: Sequence[Delta] = (), error: Exception | None = None) -> None:
        self.script = script
        self.error = error
        self.refusal: EngineError | None = None
        self.requests: list[GenerationRequest] = []
        self.asked = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.context_length = CONTEXT
        self.spec = SimpleNamespace(id=MODEL, created=1700000000, owned_by="tests")
        self.vocabulary = SimpleNamespace(size=VOCABULARY, token_bytes=[b"x"], special_tokens={})
        self.on_death: Callable[[], None] | None = None

    def start(self, on_death: Callable[[], None]) -> None:
        self.on_death = on_death

    def submit(self, request: GenerationRequest) -> Generation:
        if self.refusal is not None:
            raise self.refusal
        self.requests.append(request)
        self.asked.set()
        generation = Generation(request, lambda _: self.cancelled.set())
        generation.cached_tokens = 2
        for delta in self.script:
            asyncio.get_running_loop().call_soon(generation.add, delta)
        if isinstance(self.error, EngineError):
            asyncio.get_running_loop().call_soon(generation.fail, self.error)
        elif self.error is not None:
            raise self.error
        return generation


class WordReader:
    """Reads a token for each word of the last message."""

    def read(self, messages: Sequence[object], **_options: object) -> tuple[int, ...]:
        return tuple(range(len(messages[-1].content.text.split())))  # type: ignore[attr-defined]


def served(engine: ScriptedEngine) -> Served:
    """The fakes in the places of what they stand for."""
    real: Engine = engine  # type: ignore[assignment]
    reader: PromptReader = WordReader()  # type: ignore[assignment]
    return Served(real, reader)


def says(index: int, text: str, *, tokens: int = 1) -> Delta:
    return Delta(index, text, [7] * tokens)


def ends(index: int, text: str = "", reason: FinishReason = FinishReason.STOP) -> Delta:
    return Delta(index, text, [2], reason)
