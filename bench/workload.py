"""What is asked: prompts of one length, no two the same."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

# Words that common byte-pair vocabularies hold whole, so that a word is about a token.
TEXT = (
    "the of and to in is that for it was on are as with they at be this have from or one had by "
    "word but not what all were we when your can said there use an each which she do how their "
    "if will up other about out many then them these so some her would make like him into time "
    "has look two more write go see number no way could people my than first water been call "
    "who oil its now find long down day did get come made may part over new sound take only "
    "little work know place year live me back give most very after thing our just name good "
    "sentence man think say great where help through much before line right too mean old any "
    "same tell boy follow came want show also around form three small set put end does another "
    "well large must big even such because turn here why ask went men read need land different "
    "home us move try kind hand picture again change off play spell air away animal house point"
)
WORDS = TEXT.split()
# What the chat template puts around the two messages.
TEMPLATE_TOKENS = 14
# The prompt begins with words of its own, or a prefix cache would know its first block.
SYSTEM_WORDS = 4


@dataclass(frozen=True, slots=True)
class Request:
    """One chat completion, whatever the protocol."""

    model: str
    system: str
    user: str
    max_tokens: int
    temperature: float
    name: str = ""
    """The value of `user`; over REST only."""


@dataclass(frozen=True, slots=True)
class Workload:
    """Requests by number: the same number and seed give the same request."""

    model: str
    prompt_tokens: int
    max_tokens: int
    temperature: float
    seed: int

    def request(self, number: int, max_tokens: int | None = None) -> Request:
        words = Random(f"{self.seed}/{number}").choices(  # noqa: S311 - prompts, not secrets
            WORDS, k=max(self.prompt_tokens - TEMPLATE_TOKENS, 2 * SYSTEM_WORDS)
        )
        return Request(
            model=self.model,
            system=" ".join(words[:SYSTEM_WORDS]),
            user=" ".join(words[SYSTEM_WORDS:]),
            max_tokens=max_tokens or self.max_tokens,
            temperature=self.temperature,
        )
