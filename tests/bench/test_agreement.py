from __future__ import annotations

import httpx
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from bench.agreement import Given, lines, tokens_apart, verdict
from rapport.service.engine.text.vocabulary import Vocabulary

OWN = Given([b"a", b"b", b"c"], [{b"a": -0.1}, {b"b": -0.5, b"x": -0.75}, {b"c": -0.1}])


def test_lines_are_the_same_each_time() -> None:
    """Whole characters, which UTF-8 has, and as many lines as asked for."""
    texts = lines(60)
    assert texts == lines(60)
    assert len(texts) == 60
    assert all(text.encode().decode() == text for text in texts)


def test_the_place_where_answers_part_shows_both_gaps() -> None:
    """The peer's own token may be none of those that the other server shows."""
    other = Given([b"a", b"x", b"d"], [{b"a": -0.1}, {b"x": -0.5, b"y": -2.0}, {b"d": -0.1}])
    assert verdict("p", OWN, other) == (
        "'p': equal for 1 tokens, then 'b' and 'x', preferred by 0.250 and 1.500 nats"
    )


@pytest.mark.parametrize(("length", "word"), [(3, "equal"), (2, "one ends")])
def test_answers_that_do_not_part(length: int, word: str) -> None:
    other = Given(OWN.tokens[:length], OWN.likely[:length])
    assert verdict("p", OWN, other) == f"'p': {word}, 3 tokens"


def test_lines_with_other_tokens_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    """The first of them are printed with the tokens of both."""
    tokenizer = Tokenizer(models.BPE({"a": 0, "b": 1}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    peer = httpx.MockTransport(lambda _: httpx.Response(200, json={"tokens": [0, 1]}))
    with httpx.Client(base_url="http://127.0.0.1", transport=peer) as http:
        assert tokens_apart(Vocabulary(tokenizer.to_str(), 2), http, ["ab", "ba"]) == 1
    assert capsys.readouterr().out == (
        "'ba': [1, 0], llama-server [0, 1]\n2 lines, 4 tokens: 1 lines differ\n"
    )
