"""Prompts to tokens, in such a way that what people write never becomes a special token."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from rapport.service.engine.text.vocabulary import Vocabulary
from rapport.service.errors import FieldViolation, InvalidRequestError
from rapport.service.prompt.turns import Conversation

PRIVATE_USE = range(0xE000, 0x110000)

Render = Callable[[Conversation], str]


class SafeTokenizer:
    """Encodes rendered conversations; special tokens come from the template alone.

    Where a text spells a special token, the first letter of the spelling gets a
    stand-in that occurs nowhere else. What then still spells a special token in the
    rendered text is the template's. Between those the letters are put back, and the
    text is encoded as nothing but text.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        longest_first = sorted(vocabulary.special_tokens, key=len, reverse=True)
        spellings = "|".join(map(re.escape, longest_first)) or "(?!)"
        self._special = re.compile(f"({spellings})")
        self._first_letter = re.compile(f"(?={spellings}).", re.DOTALL)
        self._first_letters = {spelling[0] for spelling in longest_first}

    def encode(self, conversation: Conversation, render: Render) -> list[int]:
        """The tokens of `render(conversation)`.

        Raises:
            InvalidRequestError: the conversation leaves no character free to stand in.
        """
        if not any(map(self._special.search, conversation.texts())):
            return self._vocabulary.encode(render(conversation))
        stand_ins = self._stand_ins(conversation)
        hidden = conversation.changed(lambda text: self._hide(text, stand_ins))
        letters = str.maketrans({stand_in: letter for letter, stand_in in stand_ins.items()})
        return list(self._tokens(render(hidden), letters))

    def _stand_ins(self, conversation: Conversation) -> dict[str, str]:
        taken = set().union(*conversation.texts(), *self._vocabulary.special_tokens)
        free = (character for character in map(chr, PRIVATE_USE) if character not in taken)
        stand_ins = dict(zip(self._first_letters, free, strict=False))
        if len(stand_ins) < len(self._first_letters):
            raise InvalidRequestError(
                [FieldViolation("messages", "All private-use characters are taken")]
            )
        return stand_ins

    def _hide(self, text: str, stand_ins: dict[str, str]) -> str:
        return self._first_letter.sub(lambda found: stand_ins[found[0]], text)

    def _tokens(self, text: str, letters: dict[int, str]) -> Iterator[int]:
        # Splitting by a pattern with a group keeps the special tokens: they are every second piece.
        for place, piece in enumerate(self._special.split(text)):
            if place % 2:
                yield self._vocabulary.special_tokens[piece]
            else:
                yield from self._vocabulary.encode_text(piece.translate(letters))
