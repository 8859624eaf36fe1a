"""A model made of arithmetic, with slots that remember what is in them.

Its next token depends on every token in the slot, so that a slot that was mixed up,
moved half or reused too early gives wrong tokens.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from rapport.common.model_spec import GraphInputs, GraphOutputs, ModelSpec
from rapport.service.engine.engine import Engine
from rapport.service.engine.generation import Generation
from rapport.service.engine.kv.prefix_store import SlotMemory
from rapport.service.engine.pace import CPU_PACE
from rapport.service.engine.request import GenerationRequest, SamplingParams
from rapport.service.engine.sampling.logits import StepSettings
from rapport.service.engine.scheduling.latency_model import (
    FAIR_SHARE,
    SLICE_GRAIN_TOKENS,
    LatencyModel,
)
from rapport.service.engine.speculative.drafter import MAX_DRAFT_TOKENS
from rapport.service.engine.text.vocabulary import BYTE_OF, Vocabulary

END = 256
SIZE = 257
CONTEXT = 64


def next_token(tokens: Sequence[int]) -> int:
    """The model: a letter that depends on all tokens and their order."""
    total = 0
    for token in tokens:
        total = (total * 31 + token + 7) % 1_000_003
    return ord("a") + total % 26


def expected(prompt: Sequence[int], count: int) -> list[int]:
    """What the model generates, greedily."""
    tokens = list(prompt)
    for _ in range(count):
        tokens.append(next_token(tokens))
    return tokens[len(prompt) :]


class FakeRunner:
    """Runs the arithmetic model. `before` is called before each run and may raise."""

    def __init__(self, slots: int = 4) -> None:
        self.pace = CPU_PACE
        self.slots = slots
        self.slot_tokens = CONTEXT
        self.kept_slots: range | None = None
        self.memory: SlotMemory | None = self
        self.contents: list[list[int]] = [[] for _ in range(slots + 1)]
        self.before: Callable[[str], None] = lambda _: None
        self.slices: list[int] = []
        self.batches: list[int] = []
        self.drafts: list[int] = []

    def decode(
        self,
        tokens: Sequence[int],
        pasts: Sequence[int],
        settings: StepSettings | None = None,  # noqa: ARG002 - its logits are on the host
    ) -> NDArray[np.float32]:
        self.before("decode")
        assert 1 <= len(tokens) <= self.slots + 1
        self.batches.append(len(tokens))
        rows = [self._append(slot, [token], pasts[slot]) for slot, token in enumerate(tokens)]
        return np.stack(rows)

    def prefill(self, slot: int, tokens: Sequence[int], past: int) -> NDArray[np.float32]:
        self.before("prefill")
        self.slices.append(len(tokens))
        return self._append(slot, tokens, past)[None]

    def verify(self, slot: int, tokens: Sequence[int], past: int) -> NDArray[np.float32]:
        self.before("verify")
        assert 1 <= len(tokens) <= MAX_DRAFT_TOKENS + 1
        self.drafts.append(len(tokens) - 1)
        rows = [self._append(slot, [token], past + place) for place, token in enumerate(tokens)]
        return np.stack(rows)

    def copy(self, source: int, target: int, length: int, start: int = 0) -> None:
        assert len(self.contents[source]) >= length
        assert len(self.contents[target]) >= start
        kept = self.contents[target][:start]
        self.contents[target] = kept + self.contents[source][start:length]

    def exchange(self, one: int, one_length: int, other: int, other_length: int) -> None:
        assert one != other
        contents = self.contents
        contents[one], contents[other] = contents[other][:other_length], contents[one][:one_length]

    def release(self, slot: int, length: int, kept: int = 0) -> None:
        assert len(self.contents[slot]) <= length + MAX_DRAFT_TOKENS, "something is left behind"
        self.contents[slot] = self.contents[slot][:kept]

    def read(self, slot: int, start: int, count: int) -> NDArray[Any]:
        assert len(self.contents[slot]) >= start + count
        return np.array(self.contents[slot][start : start + count])

    def write(self, slot: int, start: int, tokens: NDArray[Any], count: int) -> None:
        assert len(self.contents[slot]) >= start
        self.contents[slot][start : start + count] = tokens[:count].tolist()

    def _append(self, slot: int, tokens: Sequence[int], past: int) -> NDArray[np.float32]:
        assert len(self.contents[slot]) >= past, "the slot does not hold what it should"
        self.contents[slot] = [*self.contents[slot][:past], *tokens]
        logits = np.zeros(SIZE, np.float32)
        logits[next_token(self.contents[slot])] = 10
        return logits


class EndingRunner(FakeRunner):
    """Ends the turn behind so many tokens, which include the prompt's."""

    def __init__(self, tokens: int) -> None:
        super().__init__()
        self._tokens = tokens

    def _append(self, slot: int, tokens: Sequence[int], past: int) -> NDArray[np.float32]:
        logits = super()._append(slot, tokens, past)
        if past + len(tokens) == self._tokens:
            logits[END] = 20
        return logits


class ShortSlices(LatencyModel):
    """Slices prompts as finely as it goes, whatever the steps take."""

    def __init__(self) -> None:
        super().__init__(target=0)

    def slice_beside_decode(self, past: int = 0, share: float = FAIR_SHARE) -> int:  # noqa: ARG002 - a slice is as short as can be
        return SLICE_GRAIN_TOKENS


class Gate:
    """Holds the engine's thread before a run, so that a test can act at that moment."""

    def __init__(self, runner: FakeRunner, kind: str, after: int = 0) -> None:
        self.reached = threading.Event()
        self.opened = threading.Event()
        self._kind = kind
        self._after = after
        runner.before = self

    def __call__(self, kind: str) -> None:
        if kind != self._kind:
            return
        self._after -= 1
        if self._after < 0:
            self.reached.set()
            assert self.opened.wait(20)


def byte_vocabulary() -> Vocabulary:
    """A token for each byte, and one that ends a turn."""
    tokens = dict(BYTE_OF)
    tokenizer = Tokenizer(models.BPE(vocab=tokens, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken("<|end|>", special=True)])
    return Vocabulary(tokenizer.to_str(), SIZE)


def fake_spec() -> ModelSpec:
    """A spec that fits the arithmetic model: a token takes 8 bytes."""
    return ModelSpec(
        format=1,
        id="fake",
        precision="float32",
        created=0,
        owned_by="tests",
        context_length=CONTEXT,
        layers=1,
        heads=1,
        kv_heads=1,
        head_size=1,
        vocab_size=SIZE,
        kv_type="float32",
        eos_token_ids=[END],
        inputs=GraphInputs(
            input_ids="",
            seqlens_k="",
            total_sequence_length="",
            logit_rows="",
            past_key="",
            past_value="",
        ),
        outputs=GraphOutputs(logits="", present_key="", present_value=""),
        source={},
    )


def greedy(prompt: str, max_tokens: int, **options: object) -> GenerationRequest:
    """A request for the arithmetic model's own continuation."""
    return GenerationRequest(
        tuple(prompt.encode()),
        max_tokens,
        sampling=SamplingParams(temperature=0),
        **options,  # type: ignore[arg-type] - whatever else a request takes
    )


async def settled(engine: Engine) -> None:
    """Returns when every request of the engine has ended."""
    counters = engine.counters
    async with asyncio.timeout(30):
        while counters.accepted > counters.finished + counters.cancelled + counters.failed:  # noqa: ASYNC110 - counts have no event
            await asyncio.sleep(0.001)


async def collect(generation: Generation) -> dict[int, str]:
    """The text of each choice."""
    texts: dict[int, str] = {}
    async with generation:
        async for delta in generation:
            texts[delta.index] = texts.get(delta.index, "") + delta.text
    return texts
