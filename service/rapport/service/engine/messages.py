"""The messages between the event loop and the engine's thread.

Commands go into the thread (`Worker.put`), events come out of it (`Outbox`, then `dispatch`).
"""

from __future__ import annotations

from dataclasses import dataclass

from rapport.service.engine.errors import EngineError
from rapport.service.engine.generation import Generation
from rapport.service.engine.request import Delta
from rapport.service.engine.sampling.logprobs import TokenLogprob


@dataclass(frozen=True, slots=True)
class AddRequest:
    """Puts a request into the waiting queue."""

    generation: Generation


@dataclass(frozen=True, slots=True)
class AbortRequest:
    """Ends a request with an error, wherever it is, unless it has already ended."""

    generation: Generation
    error: EngineError


@dataclass(frozen=True, slots=True)
class Stop:
    """Ends the engine's thread after the current step."""


Command = AddRequest | AbortRequest | Stop


@dataclass(frozen=True, slots=True)
class RequestStarted:
    """A choice of the request was given a slot for the first time."""

    generation: Generation
    at: float
    """Time by the monotonic clock."""


@dataclass(frozen=True, slots=True)
class PrefixReused:
    """Some tokens of the prompt came from the prefix cache."""

    generation: Generation
    tokens: int


@dataclass(frozen=True, slots=True)
class PromptScored:
    """The log probabilities of some tokens of the prompt were computed, in their order."""

    generation: Generation
    logprobs: list[TokenLogprob]


@dataclass(slots=True)
class TokenDelta:
    """A step added a token to a choice.

    There is one for every token. It is not frozen, as a frozen one takes three times as long to
    make.
    """

    generation: Generation
    delta: Delta


@dataclass(frozen=True, slots=True)
class DraftVerified:
    """A draft was checked."""

    generation: Generation
    drafted: int
    accepted: int


@dataclass(frozen=True, slots=True)
class RequestFailed:
    """The request ended with an error; no other event follows."""

    generation: Generation
    error: EngineError


Event = RequestStarted | PrefixReused | PromptScored | TokenDelta | DraftVerified | RequestFailed


def dispatch(events: list[Event]) -> None:
    """Hands each event to its generation. For the event loop."""
    for event in events:
        match event:
            case TokenDelta():  # attributes are read faster than a pattern takes them out
                event.generation.add(event.delta)
            case RequestStarted(generation, at):
                generation.mark_started(at)
            case PrefixReused(generation, tokens):
                generation.add_cached(tokens)
            case PromptScored(generation, logprobs):
                generation.add_prompt_logprobs(logprobs)
            case DraftVerified(generation, drafted, accepted):
                generation.record_acceptance(drafted, accepted)
            case RequestFailed(generation, error):
                generation.fail(error)
