"""Text of others in the terminal."""

from __future__ import annotations

import re

# Of C0 all but tabs and line feeds, and all of C1. Terminals take them as commands.
CONTROL_CHARACTERS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def visible(text: str) -> str:
    """Shows control characters as escapes; line feeds and tabs stay.

    Each character is replaced by itself, so that no sequence passes in pieces.
    """
    return CONTROL_CHARACTERS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
