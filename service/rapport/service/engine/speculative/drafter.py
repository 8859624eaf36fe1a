"""Guesses at the next tokens, several of which one run of the model can check.

A draft changes nothing but the time that it takes: each of its tokens is drawn from the
model's logits as ever, by the same sampler, and the rest of the draft is dropped at the
first token that comes out otherwise. Since a draft is one guess and no distribution, this
is rejection sampling: tokens keep their distribution, and a seed gives the same ones. Only
the model's rounding can differ, as a run of several tokens uses other kernels than one.

Drafts come from
- the grammar, where it leaves one text: its tokens as the tokenizer would split that text.
  They are drawn under the grammar's masks as well, so the model may still split otherwise;
- the prediction that came with the request, from where the output follows it;
- prompt and output, where the last tokens have occurred before.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rapport.service.engine.sampling.constraint import Constraint

MAX_DRAFT_TOKENS = 15
"""Tokens in a draft: with more the cost of a run grows as fast as what it gives."""

# Lengths of the last tokens that are looked up, the longest first.
NGRAM_LENGTHS = (3, 2)
# What one more token in a run costs, in steps of one: a sixth with 8-bit weights, a fifth or a
# quarter with 4-bit ones, for which a lower one does no worse, as drafts that are right go on being
# right. It is not learned as times are, or the time of day would decide which kernels round a
# token's logits.
COST = 0.15
# What is held of drafts of which nothing is known, and how much one token changes of it.
FIRST_ACCEPTANCE = 0.5
PREDICTED_ACCEPTANCE = 0.8
WEIGHT = 0.15
# How fast a bad record is forgotten, per token: drafts that never pay are still tried at times.
FORGIVENESS = 0.005


class NgramLookup:
    """Finds where the last tokens occurred before. Takes in tokens in constant time each."""

    def __init__(self) -> None:
        self._text: list[int] = []
        self._next: dict[tuple[int, ...], int] = {}
        self._tail: tuple[int, ...] = ()
        self._cursor: int | None = None
        self._expected_end = 0

    def extend(self, tokens: Iterable[int]) -> None:
        """Takes in tokens that came behind the others."""
        for token in tokens:
            if self._cursor is not None:
                right = self._text[self._cursor] == token
                # Behind what was expected nothing is: what comes then stands there by chance.
                more = self._cursor + 1 != self._expected_end
                self._cursor = self._cursor + 1 if right and more else None
            for length in NGRAM_LENGTHS:
                if len(self._tail) >= length:
                    self._next[self._tail[-length:]] = len(self._text)
            self._text.append(token)
            self._tail = (*self._tail, token)[-NGRAM_LENGTHS[0] :]

    def expect(self, tokens: Sequence[int]) -> None:
        """Takes in tokens that may come next, but have not."""
        tail, start = self._tail, len(self._text)
        self.extend(tokens)
        self._tail, self._cursor = tail, start if tokens else None
        self._expected_end = len(self._text) if tokens else 0

    def guess(self, count: int) -> list[int]:
        """Up to `count` tokens that followed the last ones elsewhere, or none.

        Once a place was right it is followed, until it is wrong, or what was expected ends.
        Where what followed reaches up to now it goes on repeating.
        """
        if self._cursor is None:
            grams = (self._tail[-length:] for length in NGRAM_LENGTHS if len(self._tail) >= length)
            self._cursor = next((self._next[gram] for gram in grams if gram in self._next), None)
        if self._cursor is None:
            return []
        if self._cursor < self._expected_end:
            return self._text[self._cursor : min(self._cursor + count, self._expected_end)]
        span = len(self._text) - self._cursor
        return [self._text[self._cursor + place % span] for place in range(count)]


class Drafter:
    """Makes the drafts of one choice, of the length that has paid so far."""

    def __init__(self, prompt: Sequence[int], prediction: Sequence[int]) -> None:
        self._lookup = NgramLookup()
        self._lookup.extend(prompt)
        self._lookup.expect(prediction)
        self.forced = False
        """Whether the last draft is what the grammar forces."""
        self._read = 0
        self._usual = PREDICTED_ACCEPTANCE if prediction else FIRST_ACCEPTANCE
        self._acceptance = self._usual

    def draft(self, output: Sequence[int], constraint: Constraint | None, room: int) -> list[int]:
        """A guess at what follows `output`: up to `room` tokens, none if that would not pay."""
        self._lookup.extend(output[self._read :])
        self._read = len(output)
        room = min(room, MAX_DRAFT_TOKENS)
        forced = constraint.forced() if constraint is not None else []
        self.forced = bool(forced)
        if forced:
            return forced[:room]
        size = draft_size(self._acceptance, room)
        if size == 0:
            self._acceptance += FORGIVENESS * (self._usual - self._acceptance)
            return []
        return self._lookup.guess(size)

    def record_acceptance(self, accepted: int, drafted: int) -> None:
        """Notes how many tokens of a draft came out as guessed."""
        for _ in range(accepted):
            self._acceptance += WEIGHT * (1 - self._acceptance)
        if accepted < drafted:
            self._acceptance -= WEIGHT * self._acceptance


def draft_size(acceptance: float, most: int) -> int:
    """How many tokens to draft, up to `most`, for the most tokens in a second.

    `acceptance` is the probability that a token comes out as drafted if those before it did.
    """
    best, best_rate, expected = 0, 0.0, 0.0
    for size in range(most + 1):
        expected += acceptance**size
        rate = expected / (1 + COST * size)
        if rate > best_rate:
            best, best_rate = size, rate
    return best
