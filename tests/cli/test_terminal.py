"""What of foreign text reaches the terminal."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rapport.cli.terminal import visible


def test_commands_to_the_terminal_are_seen() -> None:
    """Sequences of C0 and C1, and what overwrites a line, are shown and not done."""
    assert visible("\x1b]0;title\x07\x1b[2J") == r"\x1b]0;title\x07\x1b[2J"
    assert visible("\x9b31m\r\b\x7f\0") == r"\x9b31m\r\x08\x7f\x00"


def test_text_stays() -> None:
    """Lines, tabs, letters of all scripts and joined emoji are what they were."""
    text = "a\tb\nçß\u3000你好\u00a0\U0001f468\u200d\U0001f469 [red] :smile:"
    assert visible(text) == text


@given(st.lists(st.text()))
def test_pieces(pieces: list[str]) -> None:
    """However a text is cut, the same is seen."""
    assert "".join(map(visible, pieces)) == visible("".join(pieces))
