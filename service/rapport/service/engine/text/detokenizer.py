"""Turns tokens into text as they arrive."""

from __future__ import annotations

import codecs
from collections.abc import Sequence

UTF8_DECODER = codecs.getincrementaldecoder("utf-8")


class Detokenizer:
    """Turns tokens into text one at a time; an incomplete character waits for the rest.

    Bytes that are not valid UTF-8 become U+FFFD. Joined, the texts equal what decoding all
    bytes at once would give.
    """

    def __init__(self, token_bytes: Sequence[bytes]) -> None:
        self._token_bytes = token_bytes
        self._decoder = UTF8_DECODER("replace")

    def push(self, token: int) -> str:
        """The text that is complete with this token."""
        return self._decoder.decode(self._token_bytes[token])

    def flush(self) -> str:
        """The rest of the text, after the last token."""
        return self._decoder.decode(b"", final=True)
