from __future__ import annotations

from rapport.service.structured_output.alphabet import EVERY_BYTE, Alphabet


def test_what_can_be_written() -> None:
    """Characters need tokens for their bytes, and an escape of one letter if they need any."""
    assert EVERY_BYTE.missing('a"\\\n\t\b\f\r é\U0010ffff') is None
    assert EVERY_BYTE.missing("ab\x07c") == "\x07"
    assert EVERY_BYTE.missing("\x7f") == "\x7f"


def test_bytes_without_tokens() -> None:
    """Without the first byte of a character, no character that begins with it can be written."""
    for missing in (0xC3, 0xE0, 0xED, 0xF0, 0xF1, 0xF4):
        alphabet = Alphabet.of_bytes(frozenset(range(256)) - {missing})
        for character in "A\u00e9\u0800\u0fff\ud7ff\U00010000\U00040000\U0010ffffB\u00bf\u1000":
            assert (alphabet.missing(character) is None) == (character.encode()[0] != missing)


def test_texts_that_are_no_json() -> None:
    """Outside of JSON a control character needs nothing but a token."""
    alphabet = Alphabet.of_bytes(frozenset(range(256)) - {4})
    assert "\x07" in alphabet.text_characters
    assert "\x04" not in alphabet.text_characters
