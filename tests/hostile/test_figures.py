"""The harness itself: what it takes for blocked, and that a quiet server passes."""

from __future__ import annotations

from tests.hostile.attacked import Attacked
from tests.hostile.figures import CHATS, HEALTH, KINDS, Figures, Sample


def samples(seconds: float, *, slow: str = "", slow_seconds: float = 0) -> list[Sample]:
    values = {kind: slow_seconds if kind == slow else seconds for kind in KINDS}
    return [Sample(kind, 0, value) for kind, value in values.items()]


def test_slack_and_ratio() -> None:
    """Answers may take a fixed time, and beyond it so many times as long as alone."""
    for kind in KINDS:
        slack = 4 if kind in CHATS else 2
        quick, slow = samples(0.1), samples(0.1, slow=kind, slow_seconds=slack + 1)
        assert not Figures(quick, samples(1), {}).blocked()
        assert [text.split(":")[0] for text in Figures(quick, slow, {}).blocked()] == [kind]
        assert not Figures(samples(slack), samples(2 * slack), {}).blocked()


def test_strict_bounds() -> None:
    """Health keeps to 100 ms, the first token to a second, gaps to three times those alone."""
    alone = samples(0.02)
    assert not Figures(alone, samples(0.05), {}).slow()
    for kind in (*CHATS, *HEALTH):
        slow = samples(0.05, slow=kind, slow_seconds=1.1)
        assert [text.split(":")[0] for text in Figures(alone, slow, {}).slow()] == [kind]


def test_silence() -> None:
    """A bystander that had no answer at all was blocked."""
    assert len(Figures(samples(1), [], {}).blocked()) == len(KINDS)


def test_failures() -> None:
    """Failures of both phases are counted."""
    failed = Sample("failure", 0, "refused")
    assert Figures([failed], [*samples(1), failed], {}).failures() == {"refused": 2}


def test_nothing_happens(attacked: Attacked) -> None:
    """Beside no attack at all a bystander is served, and nothing grows."""
    with attacked.beside(max_growth_bytes=64 << 20):
        pass
