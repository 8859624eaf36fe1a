"""A request in the engine's thread, and the sequences that are its choices."""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import Any

from numpy.typing import NDArray

from rapport.service.engine.generation import Generation
from rapport.service.engine.request import Delta, FinishReason, GenerationRequest, Tenant
from rapport.service.engine.sampling.arrays import Floats
from rapport.service.engine.sampling.background_constraint import BackgroundConstraint
from rapport.service.engine.sampling.grammar_limits import GrammarBudget
from rapport.service.engine.sampling.logprobs import TokenLogprob
from rapport.service.engine.sampling.sampler import Sampler
from rapport.service.engine.speculative.drafter import Drafter
from rapport.service.engine.text.detokenizer import Detokenizer
from rapport.service.engine.text.stop_strings import StopMatcher
from rapport.service.engine.text.vocabulary import Vocabulary


class SequenceGroup:
    """A request and its choices. The prompt is computed once, in the slot of the first choice."""

    def __init__(self, generation: Generation) -> None:
        self.generation = generation
        self.request: GenerationRequest = generation.request
        self.arrived = time.monotonic()
        self._grammar_budget = GrammarBudget()
        self.running: list[SequenceState] = []
        self.started = 0
        """How many choices have been given a slot."""
        self.preempted: list[SequenceState] = []
        """Choices that lost their slot to another tenant and will resume."""
        self.prompt_logits: Floats | None = None
        """Logits after the prompt [1, vocabulary], kept while choices wait that need them."""

    def new_constraint(self) -> BackgroundConstraint | None:
        """The constraint of a choice. All choices have one budget."""
        grammar = self.request.grammar
        return None if grammar is None else BackgroundConstraint(grammar, self._grammar_budget)

    @property
    def waiting(self) -> int:
        """How many choices have not been given a slot."""
        return self.request.n - self.started

    @property
    def done(self) -> bool:
        """Whether every choice has ended."""
        return not (self.running or self.preempted or self.waiting)

    @property
    def tokens(self) -> int:
        """How many tokens one choice can have in its slot."""
        return len(self.request.prompt) + self.request.max_tokens


class SequenceState:
    """One choice of a request, in a slot."""

    def __init__(
        self, group: SequenceGroup, slot: int, vocabulary: Vocabulary, ends: Collection[int]
    ) -> None:
        request = group.request
        self.group = group
        self.slot = slot
        self.index = group.started
        self.computed = 0
        """How many tokens the slot holds."""
        self.saved_kv: NDArray[Any] | None = None
        """The contents of the slot, while the sequence is preempted."""
        self.output: list[int] = []
        self.started_at = time.monotonic()
        self.drafter: Drafter | None = None
        """Created when it is needed: reading a long prompt takes milliseconds."""
        self.constraint = group.new_constraint()
        self.undelivered: tuple[int, TokenLogprob | None] | None = None
        """The last token, until its grammar has accepted it and `deliver` was called."""
        self.sampler = Sampler(request.sampling, request.prompt, self.index, vocabulary.size)
        self.suppressed_tokens = [*ends] if request.ignore_eos else []
        """End tokens that the sampler avoids under a grammar, as `ignore_eos` asks for."""
        self._ends = () if request.ignore_eos else ends
        self._detokenizer = Detokenizer(vocabulary.token_bytes)
        self._matcher = StopMatcher(request.stop, inclusive=request.stop_in_output)
        group.started += 1
        group.running.append(self)

    @property
    def ready(self) -> bool:
        """Whether its next token may be drawn: its mask is there, and its last one delivered."""
        return self.constraint is None or (self.constraint.ready and self.undelivered is None)

    @property
    def stalled(self) -> bool:
        """Whether a step was over before its mask was ready, and the mask still is not."""
        return self.constraint is not None and self.constraint.skipped and not self.ready

    @property
    def tenant(self) -> Tenant:
        return self.group.request.tenant

    @property
    def remaining_prompt(self) -> int:
        """How many tokens of the prompt are not computed."""
        return len(self.group.request.prompt) - self.computed

    @property
    def tokens_held(self) -> tuple[int, ...]:
        """The tokens whose keys and values the slot holds."""
        return (*self.group.request.prompt, *self.output)[: self.computed]

    @property
    def is_scoring(self) -> bool:
        """Whether the logits after the prompt's next tokens are needed."""
        request = self.group.request
        return bool(request.scored_tokens) and self.computed >= request.unscored_tokens

    def draft(self, token_cost: float) -> list[int]:
        """Drafts the next tokens. With one more they do not exceed `max_tokens`.

        `token_cost` is that of `Pace`.
        """
        request = self.group.request
        if self.drafter is None:
            self.drafter = Drafter(request.prompt, request.prediction, token_cost)
        room = request.max_tokens - len(self.output) - 1
        return self.drafter.draft(self.output, self.constraint, room)

    def append(self, token: int, logprob: TokenLogprob | None) -> None:
        """Appends a generated token, which its grammar begins to accept."""
        self.output.append(token)
        self.undelivered = token, logprob
        if self.constraint is not None:
            self.constraint.accept(token)

    def deliver(self) -> Delta:
        """What the appended token adds, once it is accepted; says if it was the last.

        Raises:
            EngineError: its grammar cannot be followed.
        """
        assert self.undelivered is not None, "a token was appended"  # noqa: S101 - an invariant
        (token, logprob), self.undelivered = self.undelivered, None
        text, reason = self._read(token)
        # Who measures prompts counts from the end, so that an end has an entry there as well.
        shown = token not in self._ends or self.group.request.scored_tokens
        logprobs = [logprob] if logprob is not None and shown else []
        return Delta(self.index, text, [token], reason, logprobs)

    def close(self) -> None:
        """Drops the work that its grammar has not begun."""
        if self.constraint is not None:
            self.constraint.close()

    def _read(self, token: int) -> tuple[str, FinishReason | None]:
        finished = self.constraint is not None and self.constraint.finished()
        if token in self._ends:
            return self._rest(), FinishReason.STOP
        text, stopped = self._matcher.push(self._detokenizer.push(token))
        if stopped:
            return text, FinishReason.STOP
        if finished:
            return text + self._rest(), FinishReason.STOP
        if len(self.output) < self.group.request.max_tokens:
            return text, None
        return text + self._rest(), FinishReason.LENGTH

    def _rest(self) -> str:
        text, _ = self._matcher.push(self._detokenizer.flush())
        return text + self._matcher.flush()
