from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rapport.service.engine.text.detokenizer import Detokenizer

BYTES = [bytes([byte]) for byte in range(256)]


def pieces_of(data: bytes) -> list[str]:
    detokenizer = Detokenizer(BYTES)
    return [*map(detokenizer.push, data), detokenizer.flush()]


@given(st.text())
def test_joined_pieces_are_the_text(text: str) -> None:
    """Whatever the text, the pieces of its bytes join to it."""
    assert "".join(pieces_of(text.encode())) == text


@given(st.binary())
def test_broken_bytes_decode_as_a_whole_would(data: bytes) -> None:
    """Bytes that are no UTF-8 become the replacement characters of a whole decoding."""
    assert "".join(pieces_of(data)) == data.decode(errors="replace")


@given(st.text(alphabet="👩‍🚀漢字語é🇫🇷", min_size=1))
def test_a_character_comes_whole(text: str) -> None:
    """Emoji and CJK come with their last byte and never in parts."""
    pieces = pieces_of(text.encode())
    assert "�" not in "".join(pieces)
    assert [piece for piece in pieces if piece] == list(text)
