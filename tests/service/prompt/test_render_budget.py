from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rapport.service.prompt import render_budget
from rapport.service.prompt.render_budget import (
    BASE_SIZE,
    SIZE_PER_INPUT,
    SPENDS_PER_TIME_CHECK,
    RenderBudget,
    RenderBudgetExceededError,
    charge_text,
    measure,
    spend,
)

VALUES = st.recursive(
    st.text(max_size=8) | st.integers(-9, 9) | st.none(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
)


@given(VALUES)
def test_no_text_is_longer_than_measured(value: Any) -> None:
    """The size of a value bounds the length of its text, except for quotes and escapes."""
    render_budget.begin("")
    characters = sum(map(str.isalnum, str(value)))
    assert characters <= 11 * measure(value)


def test_what_occurs_twice_counts_twice() -> None:
    """A small value can stand for a large text."""
    render_budget.begin("")
    value: Any = "x"
    for _ in range(10):
        value = [value, value]
    assert measure(value) > 2**10
    for _ in range(50):
        value = [value, value]
    with pytest.raises(RenderBudgetExceededError, match="makes more"):
        measure(value)


@pytest.mark.parametrize("size", [-(10**9), 0, 1])
def test_spending_never_adds(size: int) -> None:
    """Spending leaves less, whatever the size is."""
    left = RenderBudget("")
    before = left._left
    left.spend(size)
    assert left._left < before


def test_long_conversations_have_a_larger_budget() -> None:
    """The longer the conversation, the larger the budget."""
    text = "x" * BASE_SIZE
    render_budget.begin([text])
    for _ in range(SIZE_PER_INPUT):
        assert charge_text(text) is text
    charge_text(text[: BASE_SIZE // 2])
    with pytest.raises(RenderBudgetExceededError):
        charge_text(text)


def test_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps of almost no size end too: by time."""
    monkeypatch.setattr(render_budget, "MAX_CPU_S", 0)
    render_budget.begin("")
    for _ in range(SPENDS_PER_TIME_CHECK - 1):
        spend()
    with pytest.raises(RenderBudgetExceededError, match="takes over 0 s"):
        spend()


def test_what_has_no_text() -> None:
    """Only values that have a size can be printed."""
    render_budget.begin("")
    with pytest.raises(RenderBudgetExceededError, match="a object cannot be written"):
        charge_text(object())
