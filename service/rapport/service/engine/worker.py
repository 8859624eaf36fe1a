"""The engine's thread, the only one that uses the runtime and the slots."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from queue import SimpleQueue

from rapport.service.engine.emitter import Emitter
from rapport.service.engine.errors import OutOfMemoryError
from rapport.service.engine.generation import Generation
from rapport.service.engine.kv.prefix_cache import PrefixReuse, PromptCache
from rapport.service.engine.messages import (
    AbortRequest,
    AddRequest,
    Command,
    DraftVerified,
    Event,
    PrefixReused,
    PromptScored,
    RequestStarted,
    Stop,
)
from rapport.service.engine.outbox import Outbox
from rapport.service.engine.runtime.runner import Runner
from rapport.service.engine.runtime.step_executor import StepExecutor
from rapport.service.engine.sampling.logits import Logits, copied, whole_rows
from rapport.service.engine.sampling.logprobs import observe
from rapport.service.engine.sampling.readiness import wait_for_masks
from rapport.service.engine.scheduling.latency_model import LatencyModel
from rapport.service.engine.scheduling.scheduler import Scheduler
from rapport.service.engine.sequences import SequenceGroup, SequenceState
from rapport.service.engine.stats import EngineStats

log = logging.getLogger(__name__)


class Worker:
    """Takes commands, steps while there is work, and passes events to `deliver` in batches.

    `put` and `start` may be called from any thread; commands take effect before the next step.
    """

    def __init__(
        self,
        runner: Runner,
        scheduler: Scheduler,
        latency_model: LatencyModel,
        prefixes: PromptCache | None,
        deliver: Callable[[list[Event]], None],
        *,
        deterministic: bool = False,
        drafts: bool = True,
    ) -> None:
        self.stats = EngineStats()
        self.step_started_at: float | None = None
        """When the current step started, by the monotonic clock; None while there is no work."""
        self._scheduler = scheduler
        self._prefixes = PrefixReuse(prefixes, deterministic=deterministic)
        self._executor = StepExecutor(
            runner,
            scheduler,
            latency_model,
            self.stats,
            deterministic=deterministic,
            drafts=drafts,
        )
        self._outbox = Outbox(deliver)
        self._emitter = Emitter(scheduler, self._prefixes, self._outbox, self.stats)
        self._commands: SimpleQueue[Command] = SimpleQueue()
        self._stopped = False

    @property
    def groups(self) -> Mapping[Generation, SequenceGroup]:
        """The requests that have not ended."""
        return self._emitter.groups

    @property
    def idle(self) -> bool:
        """Whether there is no command and no sequence, so that a step would wait for a command."""
        return self._scheduler.idle and self._commands.empty()

    def put(self, command: Command) -> None:
        """Sends a command to the thread."""
        self._commands.put(command)

    def start(self, on_death: Callable[[], None]) -> threading.Thread:
        """Starts the thread; should it ever fail, it calls `on_death`."""
        thread = threading.Thread(target=self._run, args=(on_death,), name="engine", daemon=True)
        thread.start()
        return thread

    def _run(self, on_death: Callable[[], None]) -> None:
        try:
            while not self._stopped:
                self.step()
            self._outbox.send()
        except BaseException:  # a panic in Rust code is no Exception
            log.exception("the engine thread died")
            with suppress(Exception):  # sending may be what failed
                self._outbox.send()
            on_death()

    def step(self) -> None:
        """Schedules; runs and samples each decoding sequence once, and one slice of one prompt.

        A tenant that another one crowds out gets the first slice of its prompt before decoding.
        """
        self.step_started_at = None
        if self._scheduler.idle:
            self._handle(self._commands.get())
        started = self.step_started_at = time.monotonic()
        self._schedule()
        if self._scheduler.newcomer:
            self._prefill()
            self._outbox.send()
        self._decode()
        self._schedule()
        self._prefill()
        self._outbox.end_step(len(self._scheduler.decoding), started)

    def _schedule(self) -> None:
        """Handles the commands in the queue, and gives free slots to waiting requests."""
        while not self._commands.empty():
            self._handle(self._commands.get())
        self._emitter.deliver()
        for group in self._scheduler.admit():
            self._start(group)
        self._emitter.start_successors()

    def _handle(self, command: Command) -> None:
        match command:
            case AddRequest(generation):
                self._emitter.open(generation)
            case AbortRequest(generation, error):
                # Does nothing if the request has just ended.
                self._emitter.abort(generation, error)
            case Stop():
                self._stopped = True

    def _start(self, group: SequenceGroup) -> None:
        self._outbox.send()  # before a copy or a slice, which may take as long as a step
        try:
            sequence = self._scheduler.start(group, self._note_start)
        except Exception as error:
            log.exception("a slot could not be filled")
            self._emitter.fail([group], error)
            return
        if sequence is not None:
            self._emitter.sample_first(sequence)

    def _note_start(self, group: SequenceGroup) -> None:
        self.stats.prompt_tokens += len(group.request.prompt)
        # The time is taken now: the event arrives after the step, which may take long.
        self._outbox.add(RequestStarted(group.generation, time.monotonic()))

    def _decode(self) -> None:
        """Gives each decoding sequence its next token, or a lone one as many as its draft holds."""
        if not (sequences := self._executor.runnable()):
            return
        try:
            draft = self._executor.draft()
        except Exception as error:
            log.exception("a draft could not be made")
            self._emitter.fail([sequences[0].group], error)
            return
        if draft:
            self._verify(sequences[0], draft)
            return
        try:
            drawn = self._executor.decode(sequences)
        except OutOfMemoryError as error:
            log.exception("out of memory in a decode step: its latest request is aborted")
            latest = max(sequences, key=lambda sequence: sequence.started_at)
            self._emitter.abort(latest.group.generation, error)
            return
        except Exception as error:
            log.exception("a decode step failed")
            self._emitter.fail({sequence.group for sequence in sequences}, error)
            return
        for sequence, token in zip(sequences, drawn, strict=True):
            self._emitter.emit(sequence, token)
        self._emitter.deliver()

    def _verify(self, sequence: SequenceState, draft: list[int]) -> None:
        try:
            logits = self._executor.verify(sequence, draft)
        except Exception as error:
            log.exception("a draft could not be verified")
            self._emitter.fail([sequence.group], error)
            return
        accepted = self._accept_draft(sequence, draft, logits)
        # Before the event of the last token, after which the caller may read the counts.
        self._outbox.add_first(DraftVerified(sequence.group.generation, len(draft), accepted))
        self._executor.record_acceptance(sequence, draft, accepted)

    def _accept_draft(self, sequence: SequenceState, draft: list[int], logits: Logits) -> int:
        """Samples tokens for as long as they equal the draft. Returns how many did.

        `logits` [1 + drafted, vocabulary] are those after the last token and the drafted ones.
        """
        accepted = 0
        for place, guess in enumerate([*draft, None]):
            wait_for_masks([sequence])
            if not sequence.ready:
                break
            # Rejected tokens stay in the slot. They are not counted, and get overwritten.
            sequence.computed += 1
            self._emitter.sample(sequence, logits[place : place + 1])
            if sequence.output[-1] != guess:
                break
            accepted += 1
            if sequence not in sequence.group.running:
                break
        return accepted

    def _prefill(self) -> None:
        """Computes one slice of one prompt; after the last one, samples the first token."""
        if (sequence := self._scheduler.next_prefill()) is None:
            return
        self._outbox.send()
        try:
            logits = self._run_slice(sequence)
            if sequence.remaining_prompt:
                return
            if sequence.group.waiting:
                sequence.group.prompt_logits = copied(logits)
        except Exception as error:
            log.exception("a prefill step failed")
            self._emitter.fail([sequence.group], error)
            return
        self._scheduler.promote(sequence)
        self._emitter.sample(sequence, logits)
        self._emitter.start_successors()

    def _run_slice(self, sequence: SequenceState) -> Logits:
        if reused := self._prefixes.load(sequence):
            self.stats.cached_tokens += reused
            self._outbox.add(PrefixReused(sequence.group.generation, reused))
        before, scoring = sequence.computed, sequence.is_scoring
        logits = self._executor.prefill(sequence)
        self._prefixes.save(sequence)
        if not scoring:
            return logits
        self._score_prompt(sequence, before, logits)
        return logits[-1:]

    def _score_prompt(self, sequence: SequenceState, before: int, logits: Logits) -> None:
        """Reports the log probabilities of the tokens that follow each of a slice's.

        `logits` [tokens, vocabulary] are those after the slice's tokens, of which the first has
        `before` others before it.
        """
        request = sequence.group.request
        following = request.prompt[before + 1 : before + 1 + len(logits)]
        rows = whole_rows(logits, range(len(following)))
        alternatives = request.logprobs or 0
        found = [
            observe(row, token, alternatives) for row, token in zip(rows, following, strict=True)
        ]
        self._outbox.add(PromptScored(sequence.group.generation, found), urgent=False)
