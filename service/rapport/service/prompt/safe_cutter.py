"""Cuts prompts into pieces so that texts of a request never become special tokens."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from rapport.service.engine.text.vocabulary import Vocabulary
from rapport.service.errors import FieldViolation, InvalidRequestError
from rapport.service.prompt.pieces import Piece, cut, cut_at
from rapport.service.prompt.turns import Conversation

# The private-use area of the Basic Multilingual Plane and all that follows it.
PRIVATE_USE = range(0xE000, 0x110000)
# Other threads wait while a regular expression is searched for, so it is done in windows.
WINDOW_CHARS = 64 << 10

Render = Callable[[Conversation], str]


class SafeCutter:
    """Cuts rendered conversations. Only the template can write special tokens.

    Where a text of the request spells a special token, the first letter of the spelling is
    replaced by a character that occurs nowhere else. Any special token that the rendered text
    still spells was written by the template. In the text between those, the letters are put
    back, and the text is tokenized as plain text.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._special_tokens = vocabulary.special_tokens
        self._is_cuttable = vocabulary.is_cuttable
        longest_first = sorted(vocabulary.special_tokens, key=len, reverse=True)
        self._special = re.compile("|".join(map(re.escape, longest_first)) or "(?!)")
        self._max_chars = max(map(len, longest_first), default=0)
        self._first_letters = {spelling[0] for spelling in longest_first}

    def pieces(self, conversation: Conversation, render: Render) -> Iterator[Piece]:
        """The pieces of `render(conversation)`.

        Raises:
            InvalidRequestError: the conversation leaves no private-use character free.
        """
        if not any(map(self._spells_special, conversation.texts())):
            return self.unsafe_pieces(render(conversation))
        placeholders = self._placeholders(conversation)
        hidden = conversation.map_texts(lambda text: self._hide(text, placeholders))
        letters = str.maketrans(
            {placeholder: letter for letter, placeholder in placeholders.items()}
        )
        return self._revealed_pieces(render(hidden), letters)

    def unsafe_pieces(self, text: str) -> Iterator[Piece]:
        """The pieces of a text in which every special token that is spelled out becomes one."""
        if not self._is_cuttable:
            return iter((Piece(text, plain=False),))
        return cut_at(text, (found.start() for found in self._find(text)))

    def plain_pieces(self, text: str) -> Iterator[Piece]:
        """The pieces of a text that is nothing but text."""
        return cut(text, plain=True) if self._is_cuttable else iter((Piece(text, plain=True),))

    def _placeholders(self, conversation: Conversation) -> dict[str, str]:
        used = set().union(*conversation.texts(), *self._special_tokens)
        free = (character for character in map(chr, PRIVATE_USE) if character not in used)
        placeholders = dict(zip(self._first_letters, free, strict=False))
        if len(placeholders) < len(self._first_letters):
            raise InvalidRequestError(
                [FieldViolation("messages", "All private-use characters are taken")]
            )
        return placeholders

    def _spells_special(self, text: str) -> bool:
        return next(self._find(text), None) is not None

    def _hide(self, text: str, placeholders: dict[str, str]) -> str:
        parts: list[str] = []
        end = 0
        for found in self._find(text, overlapping=True):
            start = found.start()
            parts += (text[end:start], placeholders[text[start]])
            end = start + 1
        return "".join((*parts, text[end:]))

    def _revealed_pieces(self, text: str, letters: dict[int, str]) -> Iterator[Piece]:
        end = 0
        for found in self._find(text):
            yield from self.plain_pieces(text[end : found.start()].translate(letters))
            yield Piece(found[0], plain=False)
            end = found.end()
        yield from self.plain_pieces(text[end:].translate(letters))

    def _find(self, text: str, *, overlapping: bool = False) -> Iterator[re.Match[str]]:
        """The special tokens that a text spells. Those that overlap an earlier one are left out."""
        start = 0
        while start < len(text):
            end = start + WINDOW_CHARS
            found = self._special.search(text, start, end + self._max_chars)
            if found is None or found.start() >= end:
                start = end
            else:
                yield found
                start = found.start() + 1 if overlapping else found.end()
