"""The engine's thread: it alone touches the runtime and the slots."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from itertools import zip_longest
from queue import SimpleQueue

from rapport.service.engine.errors import EngineError, OutOfMemoryError, failure_of
from rapport.service.engine.events import Event, Outbox
from rapport.service.engine.generation import Generation
from rapport.service.engine.kv.prefix_cache import PrefixCache
from rapport.service.engine.kv.reuse import PrefixReuse
from rapport.service.engine.runtime.runner import Runner
from rapport.service.engine.runtime.step_executor import StepExecutor
from rapport.service.engine.sampling.constraint import ConstraintFailedError
from rapport.service.engine.sampling.draw import DrawnToken, draw
from rapport.service.engine.sampling.top_k import Floats
from rapport.service.engine.scheduling.latency_model import LatencyModel
from rapport.service.engine.scheduling.scheduler import Scheduler
from rapport.service.engine.sequences import SequenceGroup, SequenceState
from rapport.service.engine.stats import EngineStats

log = logging.getLogger(__name__)


class Worker:
    """Steps while there is work; `deliver` gets the events of a step or of some, all at once.

    The public methods may be called from any thread, and take effect before the next step.
    """

    def __init__(
        self,
        runner: Runner,
        scheduler: Scheduler,
        latency_model: LatencyModel,
        prefixes: PrefixCache | None,
        deliver: Callable[[list[Event]], None],
        *,
        deterministic: bool = False,
        drafts: bool = True,
    ) -> None:
        self.stats = EngineStats()
        self._scheduler = scheduler
        self._reuse = PrefixReuse(prefixes, deterministic=deterministic)
        self._executor = StepExecutor(
            runner, scheduler, latency_model, self.stats, deterministic=deterministic, drafts=drafts
        )
        self._outbox = Outbox(deliver)
        self._groups: dict[Generation, SequenceGroup] = {}
        self._successors: list[SequenceState] = []
        self._commands: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._stopped = False
        self.step_started_at: float | None = None
        """When the step that runs did, None while there is nothing to do."""

    def add(self, generation: Generation) -> None:
        """Puts a request in line."""
        self._commands.put(partial(self._add, generation))

    def end(self, generation: Generation, error: EngineError) -> None:
        """Ends a request, wherever it is, unless it has ended already."""
        self._commands.put(partial(self._end, generation, error))

    def stop(self) -> None:
        """Ends the thread after the step that runs."""
        self._commands.put(self._stop)

    def start(self, on_death: Callable[[], None]) -> threading.Thread:
        """Starts the thread; `on_death` is called in it should it ever fail."""
        thread = threading.Thread(target=self._run, args=(on_death,), name="engine", daemon=True)
        thread.start()
        return thread

    def _run(self, on_death: Callable[[], None]) -> None:
        try:
            while not self._stopped:
                self.step()
            self._outbox.send()
        except BaseException:  # a panic in Rust is no Exception
            log.exception("the engine thread died")
            with suppress(Exception):  # it may be what failed
                self._outbox.send()
            on_death()

    def step(self) -> None:
        """Takes news in, runs each decoding sequence once and one slice of one prompt.

        The first slice of a tenant that another crowds out comes as soon as it is known of.
        """
        self.step_started_at = None
        if self._scheduler.idle:
            self._commands.get()()
        began = self.step_started_at = time.monotonic()
        self._take_in()
        if self._scheduler.newcomer:
            self._prefill()
            self._outbox.send()
        self._decode()
        self._take_in()
        self._prefill()
        self._outbox.end_step(len(self._scheduler.decoding), began)

    def _take_in(self) -> None:
        while not self._commands.empty():
            self._commands.get()()
        for group in self._scheduler.admit():
            self._start(group)
        self._start_successors()

    def _start(self, group: SequenceGroup) -> None:
        self._outbox.send()  # what is copied may take as long as a step, and so may a slice
        try:
            sequence = self._scheduler.start(group, self._begin)
        except Exception as error:
            log.exception("a slot could not be filled")
            self._fail({group}, error)
            return
        if sequence is not None:
            self._accept_first(sequence)

    def _decode(self) -> None:
        if not (sequences := tuple(self._scheduler.decoding)):
            return
        try:
            draft = self._executor.draft()
        except Exception as error:
            log.exception("a draft could not be made")
            self._fail({sequences[0].group}, error)
            return
        if draft:
            self._verify(sequences[0], draft)
            return
        try:
            drawn = self._executor.decode(sequences)
        except OutOfMemoryError as error:
            log.exception("no memory for a decode step: its latest request makes room")
            latest = max(sequences, key=lambda sequence: sequence.started_at)
            self._end(latest.group.generation, error)
            return
        except Exception as error:
            log.exception("a decode step failed")
            self._fail({sequence.group for sequence in sequences}, error)
            return
        for sequence, token in zip(sequences, drawn, strict=True):
            self._accept(sequence, token)

    def _verify(self, sequence: SequenceState, draft: list[int]) -> None:
        try:
            logits = self._executor.verify(sequence, draft)
        except Exception as error:
            log.exception("a draft could not be verified")
            self._fail({sequence.group}, error)
            return
        accepted = self._accept_draft(sequence, draft, logits)
        # Ahead of the last token's event: with that the answer may be read.
        self._outbox.add_first(
            partial(sequence.group.generation.record_acceptance, len(draft), accepted)
        )
        self._executor.record_acceptance(sequence, draft, accepted)

    def _accept_draft(self, sequence: SequenceState, draft: list[int], logits: Floats) -> int:
        """Draws tokens as long as they come out as drafted. Returns how many did.

        `logits` [1 + drafted, vocabulary] are those behind the last token and the drafted ones.
        """
        accepted = 0
        for row, guess in zip_longest(logits, draft):
            # What the slot holds of the draft behind this is not counted, and written over.
            sequence.computed += 1
            self._draw_next(sequence, row)
            if sequence.output[-1] != guess:
                break
            accepted += 1
            if sequence not in sequence.group.running:
                break
        return accepted

    def _prefill(self) -> None:
        if (sequence := self._scheduler.next_prefill()) is None:
            return
        self._outbox.send()
        try:
            logits = self._run_slice(sequence)
            if sequence.remaining_prompt:
                return
            if sequence.group.waiting:
                sequence.group.prompt_logits = logits.copy()
        except Exception as error:
            log.exception("a prefill step failed")
            self._fail({sequence.group}, error)
            return
        self._scheduler.promote(sequence)
        self._draw_next(sequence, logits)
        self._start_successors()

    def _run_slice(self, sequence: SequenceState) -> Floats:
        if reused := self._reuse.load(sequence):
            self.stats.cached_tokens += reused
            self._outbox.add(partial(sequence.group.generation.reuse, reused))
        logits = self._executor.prefill(sequence)
        self._reuse.save(sequence)
        return logits

    def _accept(self, sequence: SequenceState, drawn: DrawnToken | EngineError) -> None:
        """Gives a sequence its token. One that this finishes may get a successor.

        A sequence whose group has ended in this step, because another choice of it failed,
        gets none.
        """
        group = sequence.group
        if group.generation not in self._groups:
            return
        if isinstance(drawn, ConstraintFailedError):
            self._end(group.generation, drawn)
            return
        if isinstance(drawn, EngineError):
            self._fail({group}, drawn)
            return
        try:
            delta = sequence.accept(*drawn)
        except ConstraintFailedError as error:
            self._end(group.generation, error)
            return
        except Exception as error:
            log.exception("a token could not be read")
            self._fail({group}, error)
            return
        self.stats.completion_tokens += len(delta.token_ids)
        self._scheduler.ledger.charge(sequence.tenant, output=len(delta.token_ids))
        ended = delta.finish_reason is not None
        urgent = ended or len(sequence.output) == 1
        self._outbox.add(partial(group.generation.add, delta), urgent=urgent)
        if ended:
            self._finish(sequence)

    def _finish(self, sequence: SequenceState) -> None:
        """Frees the slot of a choice that has its last token, or gives it to an successor."""
        group = sequence.group
        self._reuse.save(sequence, ended=True)
        try:
            successor = self._scheduler.hand_over(sequence)
        except Exception as error:
            log.exception("a slot could not be handed over")
            self._fail({group}, error)
            return
        if successor is not None:
            self._successors.append(successor)
        else:
            self._scheduler.finish(sequence)
            if group.done:
                self._close(group.generation)

    def _start_successors(self) -> None:
        """Draws the first tokens of successors. Each may finish at once and have one too."""
        while self._successors:
            self._accept_first(self._successors.pop())

    def _accept_first(self, sequence: SequenceState) -> None:
        logits = sequence.group.prompt_logits
        assert logits is not None, "its prompt was computed"  # noqa: S101 - an invariant
        self._draw_next(sequence, logits.copy())

    def _draw_next(self, sequence: SequenceState, logits: Floats) -> None:
        """Gives a sequence the token of `logits` [vocabulary], which are overwritten."""
        (drawn,) = draw(logits.reshape(1, -1), [sequence], self.stats.mask)
        self._accept(sequence, drawn)

    def _begin(self, group: SequenceGroup) -> None:
        self.stats.prompt_tokens += len(group.request.prompt)
        # The event arrives after the step, which may take long with a slice of the prompt.
        self._outbox.add(partial(group.generation.begin, time.monotonic()))

    def _fail(self, groups: set[SequenceGroup], error: Exception) -> None:
        self.stats.failed_steps += 1
        for group in groups:
            self._end(group.generation, failure_of(error))

    def _add(self, generation: Generation) -> None:
        group = self._groups[generation] = SequenceGroup(generation)
        self._scheduler.ledger.enter(generation.request.tenant)
        self._scheduler.waiting.append(group)

    def _end(self, generation: Generation, error: EngineError) -> None:
        # A request that has just finished is no longer here: its cancellation comes too late.
        if (group := self._groups.get(generation)) is not None:
            self._scheduler.drop(group)
            self._close(generation)
            self._outbox.add(partial(generation.fail, error))

    def _close(self, generation: Generation) -> None:
        del self._groups[generation]
        self._scheduler.ledger.leave(generation.request.tenant)

    def _stop(self) -> None:
        self._stopped = True
