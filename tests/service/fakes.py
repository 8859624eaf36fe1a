"""An engine that says what a test tells it to."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from types import SimpleNamespace
from typing import Any

from rapport.common.fair_threads import Steps
from rapport.common.model_spec import SamplingDefaults
from rapport.service.engine.engine import Counters, Engine
from rapport.service.engine.errors import EngineError
from rapport.service.engine.generation import Generation
from rapport.service.engine.request import Delta, FinishReason, GenerationRequest, Tenant
from rapport.service.engine.sampling.constraint import Grammar
from rapport.service.engine.sampling.grammar_compiler import GrammarCompiler
from rapport.service.engine.scheduling.slot_table import SlotCounters
from rapport.service.engine.stats import (
    COMPILE_BOUNDS,
    EngineStats,
    Histogram,
    Occupancy,
    PrefixStats,
)
from rapport.service.interceptors.context import RequestContext
from rapport.service.lifecycle import ServedModel
from rapport.service.prompt.prompt_encoder import PromptEncoder
from rapport.service.structured_output.alphabet import EVERY_BYTE
from rapport.service.structured_output.compiler import CompiledFormat, FormatCompiler
from rapport.service.structured_output.grammar_source import GrammarSource
from rapport.service.tools.call_format import HERMES
from rapport.v1.format_pb2 import ResponseFormat
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
        self.expected: list[Tenant] = []
        self.generations: list[Generation] = []
        self.asked = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.context_length = CONTEXT
        self.spec = SimpleNamespace(
            id=MODEL,
            created=1700000000,
            owned_by="tests",
            precision="int4",
            sampling_defaults=SamplingDefaults(temperature=0.6, top_k=20),
        )
        self.provider = "cpu"
        self.counters, self.stats, self.prefix_stats = Counters(), EngineStats(), PrefixStats()
        self.vocabulary = SimpleNamespace(
            size=VOCABULARY,
            token_bytes=[b"x"],
            special_tokens={},
            decode=lambda tokens: "".join(map(str, tokens)),
        )
        self.on_death: Callable[[], None] | None = None
        self.step_started_at: float | None = None
        self.slot_counters = SlotCounters()

    def start(self, on_death: Callable[[], None]) -> None:
        self.on_death = on_death

    async def drain(self, grace: float) -> None:
        """Has given all that it will ever give."""

    async def stop(self) -> None:
        """Has no thread."""

    @contextmanager
    def reserve_place(self, tenant: Tenant) -> Iterator[None]:
        self.expected.append(tenant)
        if self.refusal is not None:
            raise self.refusal
        yield

    def occupancy(self) -> Occupancy:
        return Occupancy(4, len(self.generations), 0, 0, CONTEXT, 0, 0, 8)

    def submit(self, request: GenerationRequest) -> Generation:
        self.requests.append(request)
        self.asked.set()
        generation = Generation(request, lambda _: self.cancelled.set())
        generation.cached_tokens = 2
        self.generations.append(generation)
        for delta in self.script:
            asyncio.get_running_loop().call_soon(generation.add, deepcopy(delta))
        if isinstance(self.error, EngineError):
            asyncio.get_running_loop().call_soon(generation.fail, self.error)
        elif self.error is not None:
            raise self.error
        return generation


class WordEncoder:
    """Encodes each word of the last message as one token, and keeps the last options."""

    def __init__(self) -> None:
        self.options: Mapping[str, Any] = {}
        self.call_format = HERMES

    def encode(self, messages: Sequence[object], **options: object) -> Steps[tuple[int, ...]]:
        self.options = options
        yield
        return tuple(range(len(messages[-1].content.text.split())))  # type: ignore[attr-defined]

    def encode_prompt(self, text: str, _field: str) -> Steps[tuple[int, ...]]:
        """Each word is a token."""
        yield
        return tuple(range(len(text.split())))

    def encode_text(self, text: str, max_tokens: int = sys.maxsize) -> Steps[list[int]]:
        """Each byte is a token."""
        yield
        return list(text.encode()[:max_tokens])


class Uncompiled:
    """Grammars that are their sources. Each form is known once it came."""

    alphabet = EVERY_BYTE

    def __init__(self) -> None:
        self.known: dict[bytes, CompiledFormat] = {}

    async def compile_format(self, wanted: ResponseFormat, _caller: str) -> CompiledFormat:
        kind = wanted.WhichOneof("kind")
        return CompiledFormat(None if kind is None else self._grammar(kind))

    async def compile(
        self, translate: Callable[[], GrammarSource], _field: str, form: bytes, _caller: str
    ) -> CompiledFormat:
        source = translate()
        compiled = CompiledFormat(self._grammar(source.text), source.unenforced)
        return self.known.setdefault(form, compiled)

    def recall(self, form: bytes) -> CompiledFormat | None:
        return self.known.get(form)

    def _grammar(self, source: str) -> Grammar:
        return SimpleNamespace(source=source)  # type: ignore[return-value]


def served(engine: ScriptedEngine) -> ServedModel:
    """The fakes in the places of what they stand for."""
    real: Engine = engine  # type: ignore[assignment]
    reader: PromptEncoder = WordEncoder()  # type: ignore[assignment]
    formats: FormatCompiler = Uncompiled()  # type: ignore[assignment]
    grammars: GrammarCompiler = SimpleNamespace(  # type: ignore[assignment]
        compile_times=Histogram(COMPILE_BOUNDS), refused=0, recalled=0
    )
    return ServedModel(real, reader, formats, grammars)


def request_context(method: str = "", request_id: str = "", **fields: Any) -> RequestContext:
    """The context of an RPC that has no connection."""
    rpc: Any = SimpleNamespace(peer=lambda: "ipv4:127.0.0.1:1")
    return RequestContext(rpc, method, request_id, **fields)


def says(index: int, text: str, *, tokens: int = 1) -> Delta:
    return Delta(index, text, [7] * tokens)


def ends(index: int, text: str = "", reason: FinishReason = FinishReason.STOP) -> Delta:
    return Delta(index, text, [2], reason)
