"""What the engine takes and gives: requests and deltas."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, IntEnum, auto
from typing import NamedTuple

from rapport.service.engine.sampling.constraint import Grammar
from rapport.service.engine.sampling.logprobs import TokenLogprob


class FinishReason(Enum):
    STOP = auto()
    """The model ended its turn, or a stop string came."""
    LENGTH = auto()
    """max_tokens was reached."""


class Tier(IntEnum):
    """The order of requests within a tenant."""

    PRIORITY = 0
    DEFAULT = 1
    FLEX = 2


class Tenant(NamedTuple):
    """Who sent a request: an API key, and a user of it. Either may be empty."""

    key: str = ""
    user: str = ""


ANONYMOUS = Tenant()


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How a token is drawn from logits; the defaults change nothing.

    `temperature` 0 takes the most probable token, the lowest id among equals.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    typical_p: float = 1.0
    repetition_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    mirostat_target: float | None = None
    """Target surprise in bits; mirostat then replaces the filters above."""
    mirostat_lr: float = 0.1
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """`n` completions of one prompt. Prompt and `max_tokens` must fit the engine's context."""

    prompt: tuple[int, ...]
    max_tokens: int
    n: int = 1
    sampling: SamplingParams = field(default_factory=SamplingParams)
    stop: tuple[str, ...] = ()
    stop_in_output: bool = True
    ignore_eos: bool = False
    grammar: Grammar | None = None
    """What the text must match."""
    prediction: tuple[int, ...] = ()
    """Tokens that are likely to come: they can only make the answer faster."""
    namespace: str = ""
    """Only requests of the same namespace share computed prefixes."""
    tenant: Tenant = ANONYMOUS
    """Keys get equal shares, and so do users of a key. Requests without either share one."""
    tier: Tier = Tier.DEFAULT
    logprobs: int | None = None
    """How many alternatives to report with each log probability; None reports none at all."""
    scored_tokens: int = 0
    """How many of the prompt's last tokens get log probabilities too. The first token of a prompt
    has none, as nothing comes before it."""

    @property
    def unscored_tokens(self) -> int:
        """How many tokens of the prompt come before the first one whose logits are needed."""
        length = len(self.prompt)
        return max(length - self.scored_tokens - 1, 0) if self.scored_tokens else length


@dataclass(slots=True)
class Delta:
    """What was added to one choice: text, the tokens behind it, and why it ended if it did.

    Text may lag behind its tokens: a part of a character or of a stop string is held back.
    """

    index: int
    text: str
    token_ids: list[int]
    finish_reason: FinishReason | None = None
    logprobs: list[TokenLogprob] = field(default_factory=list)
    """One for each token but an end of turn, if they were asked for."""

    def extend(self, later: Delta) -> None:
        self.text += later.text
        self.token_ids += later.token_ids
        self.logprobs += later.logprobs
        self.finish_reason = later.finish_reason
