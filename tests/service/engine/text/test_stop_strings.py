from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rapport.service.engine.text.stop_strings import StopMatcher

texts = st.text(alphabet="ab\n", max_size=30)
stops = st.lists(st.text(alphabet="ab\n", min_size=1, max_size=4), max_size=4)


def cut(text: str, sizes: list[int]) -> list[str]:
    pieces = []
    for size in sizes:
        pieces.append(text[:size])
        text = text[size:]
    return [*pieces, text]


def stream(matcher: StopMatcher, pieces: list[str]) -> tuple[str, bool]:
    given_out = ""
    for piece in pieces:
        text, stopped = matcher.push(piece)
        given_out += text
        if stopped:
            return given_out, True
    return given_out + matcher.flush(), False


def truth(text: str, stops: list[str], *, inclusive: bool) -> tuple[str, bool]:
    """The definition: the match that ends first; among those, the one that begins first."""
    for end in range(len(text) + 1):
        starts = [end - len(stop) for stop in stops if text[:end].endswith(stop)]
        if starts:
            return text[: end if inclusive else min(starts)], True
    return text, False


@given(texts, stops, st.lists(st.integers(0, 5)), st.booleans())
def test_pieces_do_not_matter(
    text: str, stops: list[str], sizes: list[int], inclusive: bool
) -> None:
    """However a text is cut into pieces, what comes out ends with the first stop string."""
    matcher = StopMatcher(stops, inclusive=inclusive)
    assert stream(matcher, cut(text, sizes)) == truth(text, stops, inclusive=inclusive)


def test_inclusive_text_is_not_held_back() -> None:
    """When the stop string is part of the answer, its beginning streams at once."""
    matcher = StopMatcher(["END"], inclusive=True)
    assert [matcher.push(piece) for piece in ("a", "E", "N", "Dx")] == [
        ("a", False),
        ("E", False),
        ("N", False),
        ("D", True),
    ]


def test_exclusive_text_waits_only_while_it_must() -> None:
    """Without the stop string, what may begin one waits, and comes when it did not."""
    matcher = StopMatcher(["END"], inclusive=False)
    assert [matcher.push(piece)[0] for piece in ("aE", "N", "o", "EN")] == ["a", "", "ENo", ""]
    assert matcher.flush() == "EN"
