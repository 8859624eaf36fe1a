"""Writes log probabilities in the two shapes of the API."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Protocol

from rapport.service.engine.sampling.logprobs import TokenLogprob
from rapport.service.engine.text.detokenizer import Detokenizer
from rapport.service.request.options import LogprobsOptions
from rapport.v1.chat_pb2 import ChoiceDelta
from rapport.v1.logprobs_pb2 import LegacyTopLogprobs, TopLogprob


class LogprobsWriter(Protocol):
    """Writes the log probabilities of one choice."""

    def write(self, logprobs: Iterable[TokenLogprob], piece: ChoiceDelta) -> None:
        """Adds the log probabilities of some tokens to a piece."""

    def skip(self, text: str) -> None:
        """Counts a text that stands before the tokens to come."""


class _TokenTexts:
    """Gives the texts of tokens, and where in the choice's text they start."""

    def __init__(self, token_bytes: Sequence[bytes]) -> None:
        self._bytes = token_bytes
        self._detokenizer = Detokenizer(token_bytes)
        self._offset = 0

    def skip(self, text: str) -> None:
        self._offset += len(text)

    def _text(self, token: int) -> str:
        return self._bytes[token].decode(errors="replace")

    def _next_offset(self, token: int) -> int:
        """Where the token starts: the number of complete characters before it."""
        offset = self._offset
        self._offset += len(self._detokenizer.push(token))
        return offset


class CurrentLogprobsWriter(_TokenTexts):
    """Writes an entry for each token."""

    def write(self, logprobs: Iterable[TokenLogprob], piece: ChoiceDelta) -> None:
        for each in logprobs:
            piece.logprobs.present.content.add(
                token=self._text(each.token),
                logprob=None if math.isnan(each.logprob) else each.logprob,
                bytes=self._bytes[each.token],
                token_id=each.token,
                text_offset=self._next_offset(each.token),
                top_logprobs=[self._alternative(*alternative) for alternative in each.top],
            )

    def _alternative(self, token: int, logprob: float) -> TopLogprob:
        text, bytes_ = self._text(token), self._bytes[token]
        return TopLogprob(token=text, logprob=logprob, token_id=token, bytes=bytes_)


class LegacyLogprobsWriter(_TokenTexts):
    """Writes parallel lists. The token itself is always among the alternatives."""

    def write(self, logprobs: Iterable[TokenLogprob], piece: ChoiceDelta) -> None:
        for each in logprobs:
            lists = piece.logprobs.legacy
            lists.tokens.append(self._text(each.token))
            lists.token_logprobs.append(each.logprob)
            lists.top_logprobs.append(self._alternatives(each))
            lists.text_offset.append(self._next_offset(each.token))
            lists.token_ids.append(each.token)

    def _alternatives(self, logprob: TokenLogprob) -> LegacyTopLogprobs:
        """A value for each token by its text, or by its id where another token has that text.

        The text of the token itself stands for the token itself.
        """
        own = self._text(logprob.token)
        values: dict[str, float] = {}
        for token, value in logprob.top:
            text = self._text(token)
            is_taken = text in values or (text == own and token != logprob.token)
            values[f"token_id:{token}" if is_taken else text] = value
        if not math.isnan(logprob.logprob):
            values[own] = logprob.logprob
        return LegacyTopLogprobs(tokens=values)


def logprobs_writer(
    options: LogprobsOptions | None, token_bytes: Sequence[bytes]
) -> LogprobsWriter | None:
    """The writer that a request wants, if any. `token_bytes` are those of tokens by their ids."""
    if options is None:
        return None
    writer = LegacyLogprobsWriter if options.legacy else CurrentLogprobsWriter
    return writer(token_bytes)
