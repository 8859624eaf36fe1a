"""Speculative decoding: drafts the next tokens, which the model then verifies in one step.

A draft changes nothing but speed. Each of its tokens is sampled from the model's logits by the
same sampler as without a draft, and the rest of the draft is dropped at the first token that
differs. As a draft is a single guess and not a distribution, this is rejection sampling: tokens
keep their distribution, and a seed gives the same tokens. Only the model's rounding can differ,
as a step with several tokens uses other kernels than a step with one.

Drafts come from
- the grammar, where it allows only one text: the tokens into which the tokenizer splits that
  text. They are sampled under the grammar's masks too, so the model may still split it otherwise;
- the prediction that came with the request, from where the output follows it;
- prompt and output, where the last tokens have occurred before.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rapport.service.engine.pace import CPU_PACE
from rapport.service.engine.sampling.background_constraint import BackgroundConstraint

MAX_DRAFT_TOKENS = 15
"""Tokens in a draft: beyond that, a step's cost grows as fast as the tokens that it yields."""

# How many of the last tokens are looked up, the longest first.
NGRAM_LENGTHS = (3, 2)
# The estimate of the acceptance rate before any draft, and how much one token changes it.
INITIAL_ACCEPTANCE = 0.5
PREDICTED_ACCEPTANCE = 0.8
LEARNING_RATE = 0.15
# How fast a low estimate recovers, per token, so that drafts that never paid are tried again.
RECOVERY_RATE = 0.005


class NgramLookup:
    """Finds where the last tokens occurred before. Adding a token takes constant time."""

    def __init__(self) -> None:
        self._text: list[int] = []
        self._next: dict[tuple[int, ...], int] = {}
        self._tail: tuple[int, ...] = ()
        self._cursor: int | None = None
        self._prediction_end = 0

    def extend(self, tokens: Iterable[int]) -> None:
        """Appends tokens to the text."""
        for token in tokens:
            if self._cursor is not None:
                right = self._text[self._cursor] == token
                # What the text has after a prediction does not continue it.
                more = self._cursor + 1 != self._prediction_end
                self._cursor = self._cursor + 1 if right and more else None
            for length in NGRAM_LENGTHS:
                if len(self._tail) >= length:
                    self._next[self._tail[-length:]] = len(self._text)
            self._text.append(token)
            self._tail = (*self._tail, token)[-NGRAM_LENGTHS[0] :]

    def add_prediction(self, tokens: Sequence[int]) -> None:
        """Adds tokens that may come next, but have not come."""
        tail, start = self._tail, len(self._text)
        self.extend(tokens)
        self._tail, self._cursor = tail, start if tokens else None
        self._prediction_end = len(self._text) if tokens else 0

    def guess(self, count: int) -> list[int]:
        """Up to `count` tokens that followed the last ones at an earlier place, or none.

        A place is followed for as long as it is right, or until the prediction ends. If what
        followed reaches the end of the text, it is repeated.
        """
        if self._cursor is None:
            grams = (self._tail[-length:] for length in NGRAM_LENGTHS if len(self._tail) >= length)
            self._cursor = next((self._next[gram] for gram in grams if gram in self._next), None)
        if self._cursor is None:
            return []
        if self._cursor < self._prediction_end:
            return self._text[self._cursor : min(self._cursor + count, self._prediction_end)]
        span = len(self._text) - self._cursor
        return [self._text[self._cursor + offset % span] for offset in range(count)]


class Drafter:
    """Drafts the tokens of one choice. The better the drafts so far, the longer the next one."""

    def __init__(
        self,
        prompt: Sequence[int],
        prediction: Sequence[int],
        token_cost: float = CPU_PACE.draft_token_cost,
    ) -> None:
        self._lookup = NgramLookup()
        self._lookup.extend(prompt)
        self._lookup.add_prediction(prediction)
        self.forced = False
        """Whether the last draft came from the grammar."""
        self._token_cost = token_cost
        self._read = 0
        self._initial = PREDICTED_ACCEPTANCE if prediction else INITIAL_ACCEPTANCE
        self._acceptance = self._initial

    def draft(
        self, output: Sequence[int], constraint: BackgroundConstraint | None, room: int
    ) -> list[int]:
        """Drafts up to `room` tokens after `output`; none if that would not be faster."""
        self._lookup.extend(output[self._read :])
        self._read = len(output)
        room = min(room, MAX_DRAFT_TOKENS)
        forced = constraint.forced() if constraint is not None else []
        self.forced = bool(forced)
        if forced:
            return forced[:room]
        size = draft_size(self._acceptance, room, self._token_cost)
        if size == 0:
            self._acceptance += RECOVERY_RATE * (self._initial - self._acceptance)
            return []
        return self._lookup.guess(size)

    def record_acceptance(self, accepted: int, drafted: int) -> None:
        """Learns how many tokens of a draft were accepted."""
        for _ in range(accepted):
            self._acceptance += LEARNING_RATE * (1 - self._acceptance)
        if accepted < drafted:
            self._acceptance -= LEARNING_RATE * self._acceptance


def draft_size(acceptance: float, limit: int, token_cost: float = CPU_PACE.draft_token_cost) -> int:
    """How many tokens to draft, up to `limit`, for the most tokens per second.

    `acceptance` is the probability that a drafted token is accepted if those before it were, and
    `token_cost` that of `Pace`.
    """
    best, best_rate, expected = 0, 0.0, 0.0
    for size in range(limit + 1):
        expected += acceptance**size
        rate = expected / (1 + token_cost * size)
        if rate > best_rate:
            best, best_rate = size, rate
    return best
