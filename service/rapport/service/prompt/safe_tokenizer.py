"""Tokenizes prompts so that texts of a request never become special tokens."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from rapport.service.engine.text.vocabulary import Vocabulary
from rapport.service.errors import FieldViolation, InvalidRequestError
from rapport.service.prompt.turns import Conversation

# The private-use area of the Basic Multilingual Plane and all that follows it.
PRIVATE_USE = range(0xE000, 0x110000)

Render = Callable[[Conversation], str]


class SafeTokenizer:
    """Tokenizes rendered conversations. Only the template can write special tokens.

    Where a text of the request spells a special token, the first letter of the spelling is
    replaced by a character that occurs nowhere else. Any special token that the rendered text
    still spells was written by the template. In the text between those, the letters are put
    back, and the text is tokenized as plain text.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        longest_first = sorted(vocabulary.special_tokens, key=len, reverse=True)
        spellings = "|".join(map(re.escape, longest_first)) or "(?!)"
        self._special = re.compile(f"({spellings})")
        self._first_letter = re.compile(f"(?={spellings}).", re.DOTALL)
        self._first_letters = {spelling[0] for spelling in longest_first}

    def tokenize(self, conversation: Conversation, render: Render) -> list[int]:
        """The tokens of `render(conversation)`.

        Raises:
            InvalidRequestError: the conversation leaves no private-use character free.
        """
        if not any(map(self._special.search, conversation.texts())):
            return self._vocabulary.encode(render(conversation))
        placeholders = self._placeholders(conversation)
        hidden = conversation.map_texts(lambda text: self._hide(text, placeholders))
        letters = str.maketrans(
            {placeholder: letter for letter, placeholder in placeholders.items()}
        )
        return list(self._tokens(render(hidden), letters))

    def _placeholders(self, conversation: Conversation) -> dict[str, str]:
        used = set().union(*conversation.texts(), *self._vocabulary.special_tokens)
        free = (character for character in map(chr, PRIVATE_USE) if character not in used)
        placeholders = dict(zip(self._first_letters, free, strict=False))
        if len(placeholders) < len(self._first_letters):
            raise InvalidRequestError(
                [FieldViolation("messages", "All private-use characters are taken")]
            )
        return placeholders

    def _hide(self, text: str, placeholders: dict[str, str]) -> str:
        return self._first_letter.sub(lambda found: placeholders[found[0]], text)

    def _tokens(self, text: str, letters: dict[int, str]) -> Iterator[int]:
        # Splitting by a pattern with a group keeps the special tokens: every second piece is one.
        for index, piece in enumerate(self._special.split(text)):
            if index % 2:
                yield self._vocabulary.special_tokens[piece]
            else:
                yield from self._vocabulary.encode_text(piece.translate(letters))
