from __future__ import annotations

import math

import pytest

from rapport.service.engine.request import Delta, FinishReason
from rapport.service.engine.sampling.logprobs import TokenLogprob
from rapport.service.request.options import LogprobsOptions
from rapport.service.response.choices import ChoiceWriter, TextWriter
from rapport.service.response.logprobs import logprobs_writer
from rapport.v1.chat_pb2 import ChoiceDelta
from tests.service.joining import joined

CURRENT = LogprobsOptions(0)
LEGACY = LogprobsOptions(2, legacy=True)
EURO = "€".encode()
TOKEN_BYTES = [b"Hi", EURO[:2], EURO[2:], b"!"]
TOKENS = [
    TokenLogprob(0, -0.5, ((0, -0.5), (3, -1.5))),
    TokenLogprob(1, -2.0, ((3, -0.1), (0, -3.0))),
    TokenLogprob(2, -0.25, ((2, -0.25), (1, -4.0))),
    TokenLogprob(3, -0.75, ((3, -0.75), (0, -5.0))),
]


def written(options: LogprobsOptions, before: str = "") -> ChoiceDelta:
    piece = ChoiceDelta()
    writer = logprobs_writer(options, TOKEN_BYTES)
    assert writer is not None
    writer.skip(before)
    writer.write(TOKENS[:2], piece)
    writer.write(TOKENS[2:], piece)
    return piece


def test_present_shape() -> None:
    """Each token has its text, bytes, id, place and alternatives; half a character is bytes."""
    content = written(CURRENT).logprobs.present.content
    assert [entry.token for entry in content] == ["Hi", "\ufffd", "\ufffd", "!"]
    assert b"".join(bytes(entry.bytes) for entry in content).decode() == "Hi€!"
    assert [entry.token_id for entry in content] == [0, 1, 2, 3]
    assert [entry.logprob for entry in content] == [-0.5, -2.0, -0.25, -0.75]
    assert [entry.text_offset for entry in content] == [0, 2, 2, 3]
    best = content[1].top_logprobs[0]
    assert (best.token, best.token_id, best.logprob, bytes(best.bytes)) == ("!", 3, -0.1, b"!")


def test_legacy_shape() -> None:
    """Lists side by side; the token itself is among the alternatives though less probable."""
    legacy = written(LEGACY).logprobs.legacy
    assert list(legacy.tokens) == ["Hi", "\ufffd", "\ufffd", "!"]
    assert list(legacy.token_logprobs) == [-0.5, -2.0, -0.25, -0.75]
    assert list(legacy.token_ids) == [0, 1, 2, 3]
    assert list(legacy.text_offset) == [0, 2, 2, 3]
    assert dict(legacy.top_logprobs[1].tokens) == {"!": -0.1, "Hi": -3.0, "\ufffd": -2.0}


def test_tokens_of_the_same_text_have_keys_of_their_own() -> None:
    """Halves of characters look alike: each has a key, and the token itself has its text."""
    alternatives = written(LEGACY).logprobs.legacy.top_logprobs[2].tokens
    assert dict(alternatives) == {"\ufffd": -0.25, "token_id:1": -4.0}


def test_offsets_count_what_comes_before() -> None:
    """After an echoed prompt, tokens start behind it."""
    content = written(CURRENT, before="0123456789").logprobs.present.content
    assert [entry.text_offset for entry in content] == [10, 12, 12, 13]


@pytest.mark.parametrize("options", [CURRENT, LEGACY])
def test_pieces_join_to_the_whole(options: LogprobsOptions) -> None:
    """However tokens fall into pieces, their log probabilities join to one list."""
    writer = ChoiceWriter(0, TextWriter(), logprobs=logprobs_writer(options, TOKEN_BYTES))
    pieces = [*writer.open()]
    for token, text in zip(TOKENS, ("Hi", "", "€", "!"), strict=True):
        pieces += writer.write(Delta(0, text, [token.token], logprobs=[token]))
    pieces += writer.write(Delta(0, "", [2], FinishReason.STOP))
    assert joined(0, pieces).logprobs == written(options).logprobs


def test_the_first_token_of_a_prompt() -> None:
    """Nothing makes it probable: it has no log probability and no alternatives."""
    first = TokenLogprob(0, math.nan, ())
    for options in (CURRENT, LEGACY):
        piece = ChoiceDelta()
        writer = logprobs_writer(options, TOKEN_BYTES)
        assert writer is not None
        writer.write([first, TOKENS[3]], piece)
        if options is CURRENT:
            one, other = piece.logprobs.present.content
            assert (one.token, one.HasField("logprob"), one.top_logprobs) == ("Hi", False, [])
            assert other.HasField("logprob")
        else:
            legacy = piece.logprobs.legacy
            assert math.isnan(legacy.token_logprobs[0])
            assert [len(each.tokens) for each in legacy.top_logprobs] == [0, 2]
