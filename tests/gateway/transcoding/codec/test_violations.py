"""Violations: their paths and their texts."""

from __future__ import annotations

import pytest

from rapport.gateway.transcoding.codec.violations import (
    MAX_DEPTH,
    MAX_SHOWN,
    MAX_VIOLATIONS,
    ROOT,
    InvalidError,
    TooDeepError,
    TooManyError,
    Violation,
    Violations,
    extra,
)


def test_path() -> None:
    """A path is shown with the arms of unions and without."""
    path = ROOT.member("a").item(0).member("b").arm("list[X]").item(1).member("c")
    assert path.text() == "a[0].b.list[X][1].c"
    assert path.text(arms=False) == "a[0].b[1].c"
    assert ROOT.arm("str").text() == "str"


def test_depth() -> None:
    """A path has an end."""
    path = ROOT
    for index in range(MAX_DEPTH):
        path = path.item(index)
    with pytest.raises(TooDeepError):
        path.item(0)


def test_text() -> None:
    """One violation stands alone, several are counted, a flood of them is cut."""
    one = Violation(ROOT.member("a"), "Field required")
    assert str(InvalidError([one])) == "Field required, field: 'a'"
    both = InvalidError([one, Violation(ROOT, "Input should be a valid dictionary")])
    assert str(both) == (
        "2 request validation errors: Field required, field: 'a'; "
        "Input should be a valid dictionary"
    )
    assert both.param == "a"
    flood = str(InvalidError([one] * (MAX_VIOLATIONS - 1)))
    assert flood.startswith("999 request validation errors: ")
    assert flood.count("Field required") == MAX_SHOWN


def test_a_flood_ends() -> None:
    """No more are collected than are reported, and the error says that there may be more."""
    found, one = Violations(), Violation(ROOT.member("a"), "Field required")
    for _ in range(MAX_VIOLATIONS - 1):
        found.append(one)
    with pytest.raises(TooManyError):
        found.append(one)
    assert str(InvalidError(found)).startswith("at least 1000 request validation errors: ")


def test_long_values_are_cut() -> None:
    """The value of an extra input is shown, but not all of a long one."""
    assert str(extra(ROOT.member("a"), 1.5)).endswith(", value: 1.5")
    assert len(str(extra(ROOT.member("a"), "x" * 10_000))) < 200
