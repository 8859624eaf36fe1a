from __future__ import annotations

from collections import Counter

import pytest

from bench.soak import Tally, report

EVEN = "requests: 9 accepted, 6 finished, 3 cancelled, 0 failed; slots: 8 taken, 8 released"


def tally(**outcomes: int) -> Tally:
    return Tally(Counter(outcomes), {"service": [1, 1, 5, 5, 6, 6]})


def test_growth_leaves_the_warming_up_out() -> None:
    """The last third of the samples is compared with the second."""
    assert tally().growth("service") == pytest.approx(0.2)


def test_an_even_account_passes() -> None:
    assert report(tally(ok=6, left=3), f"before\n{EVEN}\nafter", None) == 0


@pytest.mark.parametrize(
    "account",
    [
        EVEN.replace("9 accepted", "10 accepted"),
        EVEN.replace("8 released", "7 released"),
        EVEN.replace("6 finished", "5 finished").replace("0 failed", "1 failed"),
        "no account at all",
    ],
)
def test_an_uneven_account_fails(account: str) -> None:
    assert report(tally(ok=6, left=3), account, None) == 1


@pytest.mark.parametrize(("last", "status"), [(104, 0), (106, 1)])
def test_memory_that_grows_fails(last: int, status: int) -> None:
    """In a run that is long enough to tell."""
    grown = Tally(Counter(ok=9), {"service": [1] * 30 + [100] * 30 + [last] * 30})
    assert report(grown, EVEN, None) == status


def test_an_answer_that_is_not_whole_fails() -> None:
    assert report(tally(**{"ok": 5, "left": 3, "cut off": 1}), EVEN, None) == 1
