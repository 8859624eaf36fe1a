"""Text of tokens as they come."""

from __future__ import annotations

import codecs
from collections.abc import Sequence

UTF8_DECODER = codecs.getincrementaldecoder("utf-8")


class Detokenizer:
    """Turns tokens into text one at a time; a part of a character waits for the rest.

    Bytes that can never become a character turn into U+FFFD, so what is joined equals
    the decoding of all the bytes at once.
    """

    def __init__(self, token_bytes: Sequence[bytes]) -> None:
        self._token_bytes = token_bytes
        self._decoder = UTF8_DECODER("replace")

    def push(self, token: int) -> str:
        """The text that the token completes."""
        return self._decoder.decode(self._token_bytes[token])

    def flush(self) -> str:
        """What is left when no more tokens come."""
        return self._decoder.decode(b"", final=True)
