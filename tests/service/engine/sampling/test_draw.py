from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from rapport.service.engine.errors import (
    ConstraintFailedError,
    EngineError,
    InvalidLogitsError,
    OutOfMemoryError,
    StepFailedError,
)
from rapport.service.engine.request import SamplingParams
from rapport.service.engine.sampling import draw as module
from rapport.service.engine.sampling.draw import DrawnToken, draw, settings_of
from rapport.service.engine.sampling.logits import DeviceLogits
from rapport.service.engine.sampling.logprobs import observe
from rapport.service.engine.sampling.packed_settings import PackedSettings, Uploaded
from rapport.service.engine.sampling.row_candidates import RowCandidates
from rapport.service.engine.sampling.sampler import Sampler
from rapport.service.engine.sequences import SequenceState
from rapport.service.engine.stats import MASK_BOUNDS, Histogram
from tests.service.engine.sampling.test_row_candidates import candidates_of

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]
ALTERNATIVES = 4


class Broken:
    """A constraint that cannot be followed."""

    mask_s = 0.0

    def __init__(self, error: Exception) -> None:
        self.error = error

    def mask(self, _: Floats) -> None:
        raise self.error

    def allowed_bits(self) -> Bytes:
        raise self.error


class Among:
    """A constraint that allows some tokens."""

    mask_s = 0.0

    def __init__(self, *tokens: int) -> None:
        self.tokens = tokens

    def mask(self, logits: Floats) -> None:
        logits[[token for token in range(len(logits)) if token not in self.tokens]] = -np.inf

    def allowed_bits(self) -> Bytes:
        return np.array([sum(1 << token for token in self.tokens)], np.uint8)


def sequence(
    constraint: Any = None,
    logprobs: int | None = None,
    suppressed_tokens: tuple[int, ...] = (),
    **sampling: Any,
) -> SequenceState:
    drawer = Sampler(SamplingParams(**({"temperature": 0} | sampling)), [], 0, 4)
    group = SimpleNamespace(request=SimpleNamespace(logprobs=logprobs))
    made: Any = SimpleNamespace(
        constraint=constraint,
        sampler=drawer,
        group=group,
        suppressed_tokens=list(suppressed_tokens),
        ready=True,
    )
    return made  # type: ignore[no-any-return]


def logits() -> Floats:
    return np.array([[0, 1, 2, 3]] * 3, np.float32)


def masks() -> Histogram:
    return Histogram(MASK_BOUNDS)


def test_each_row_keeps_to_its_own_grammar() -> None:
    """A grammar narrows its own row and no other."""
    rows = [sequence(), sequence(Among(0)), sequence(Among(1), temperature=1)]
    assert draw(logits(), rows, masks()) == [
        DrawnToken(3, None),
        DrawnToken(0, None),
        DrawnToken(1, None),
    ]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ConstraintFailedError("too much"), ConstraintFailedError),
        (MemoryError(), OutOfMemoryError),
        (ValueError(), StepFailedError),
    ],
)
def test_a_grammar_that_fails_costs_only_its_own_row(
    error: Exception, expected: type[EngineError]
) -> None:
    """Where a grammar cannot be followed the others still get their tokens."""
    rows = [sequence(), sequence(Broken(error)), sequence()]
    first, failure, last = draw(logits(), rows, masks())
    assert first == last == DrawnToken(3, None)
    assert type(failure) is expected


@pytest.mark.parametrize(
    ("error", "expected"), [(MemoryError, OutOfMemoryError), (IndexError, StepFailedError)]
)
def test_a_sampler_that_fails_costs_only_its_own_row(
    error: type[Exception], expected: type[EngineError], monkeypatch: pytest.MonkeyPatch
) -> None:
    failing = sequence(temperature=1)
    monkeypatch.setattr(failing.sampler, "draw", Mock(side_effect=error))
    first, failure, last = draw(logits(), [sequence(), failing, sequence()], masks())
    assert first == last == DrawnToken(3, None)
    assert type(failure) is expected


@pytest.mark.parametrize("what", ["observed", "observe"])
def test_a_log_probability_that_fails_costs_only_its_own_row(
    what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The copy of the row that it is taken from, or its computation."""
    real = getattr(module, what)
    failing = sequence(logprobs=ALTERNATIVES)

    def fail(*given: Any) -> Any:
        if given[1] is failing or given[-1] == ALTERNATIVES:
            raise MemoryError
        return real(*given)

    monkeypatch.setattr(module, what, fail)
    first, failure, last = draw(logits(), [sequence(logprobs=1), failing, sequence()], masks())
    assert isinstance(first, DrawnToken)
    assert last == DrawnToken(3, None)
    assert type(failure) is OutOfMemoryError


def test_a_mask_that_is_not_ready_delays_only_its_own_row() -> None:
    """The row gets no token, and its sampler draws nothing; the others get theirs."""
    slow = sequence(Mock(late=True, skipped=False), temperature=1)
    slow.ready = False  # type: ignore[misc]
    slow.sampler.draw = Mock()  # type: ignore[method-assign]
    first, skipped, last = draw(logits(), [sequence(), slow, sequence(Among(0))], masks())
    assert (first, skipped, last) == (DrawnToken(3, None), None, DrawnToken(0, None))
    slow.sampler.draw.assert_not_called()
    assert slow.constraint is not None
    assert slow.constraint.skipped


def test_the_time_of_each_mask_is_counted() -> None:
    """A row with a grammar counts once, whether it could be followed or not; others do not."""
    times = masks()
    draw(
        logits(),
        [sequence(), sequence(Among(0)), sequence(Broken(ConstraintFailedError("too much")))],
        times,
    )
    assert sum(times.counts) == 2
    assert times.sum > 0


def test_log_probabilities_are_the_models_own() -> None:
    """Neither bias, temperature nor grammar changes what is reported."""
    biased = {"logit_bias": {0: 100.0}, "temperature": 0.5, "seed": 1}
    rows = [sequence(None, 2, **biased), sequence(Among(1), 2), sequence(None, 0)]
    drawn = draw(logits(), rows, masks())
    plain = logits()[0]
    assert [d.logprob for d in drawn if isinstance(d, DrawnToken)] == [
        observe(plain, 0, 2),
        observe(plain, 1, 2),
        observe(plain, 3, 0),
    ]


def test_no_log_probability_is_reported_of_logits_that_are_not_finite() -> None:
    """Not of a row either whose grammar leaves a token with a finite logit."""
    rows = np.array([[0, 1, 2, 3], [np.nan, 1, 2, 3]], np.float32)
    drawn, failure = draw(rows, [sequence(logprobs=1), sequence(Among(1), 1)], masks())
    assert isinstance(drawn, DrawnToken)
    assert isinstance(failure, InvalidLogitsError)


class Selector:
    """Candidates of `logits()`, as many as there are, and whole rows; both can be made to fail."""

    def __init__(self, count: int, error: Exception | None = None) -> None:
        self.count = count
        self.error = error
        self.fetched: list[int] = []
        self.asked: list[bool] = []
        self.has_all = False
        """Whether the device had the settings of all rows."""

    def select(
        self, first: int, settings: Any, uploaded: Uploaded | None = None
    ) -> list[RowCandidates | None]:
        if self.error:
            raise self.error
        self.has_all = uploaded is not None and uploaded.packed.has(settings)
        self.asked = [each is not None for each in settings]
        rows = zip(logits()[first:], settings, strict=True)
        return [each and candidates_of(masked(row, each.allowed), self.count) for row, each in rows]

    def rows(self, places: list[int]) -> Floats:
        self.fetched += places
        return logits()[places]


def masked(row: Floats, allowed: Bytes | None) -> Floats:
    if allowed is None:
        return row
    bits = np.unpackbits(allowed, count=len(row), bitorder="little")
    return np.where(bits, row, -np.inf).astype(np.float32)


def on_device(selector: Any) -> DeviceLogits:
    return DeviceLogits(selector, 0, len(logits()))


def test_settings_that_came_with_the_step_are_not_brought_again() -> None:
    """Unless a mask was not ready when it began."""
    for late in (False, True):
        rows = [sequence(temperature=1, seed=1), sequence(Among(1)), sequence()]
        known = settings_of(rows)
        if late:
            known[1] = None
        uploaded = Uploaded(PackedSettings(known, room=1, mask_bytes=1), 0)
        selector = Selector(count=3)
        drawn = draw(DeviceLogits(selector, 0, len(rows), uploaded), rows, masks())
        assert all(isinstance(each, DrawnToken) for each in drawn)
        assert selector.has_all is not late


def test_rows_of_a_device_come_to_the_host_only_where_they_must() -> None:
    """Alternatives under a grammar may be refused; and candidates may be too few."""

    def rows() -> list[SequenceState]:
        top_k = sequence(temperature=1, top_k=3, seed=1)
        return [sequence(logprobs=1), sequence(Among(1), logprobs=1), top_k]

    selector, times = Selector(count=2), masks()
    wanted = draw(logits(), rows(), masks())
    drawn = draw(on_device(selector), rows(), times)
    assert [d and d.token for d in drawn] == [w and w.token for w in wanted]
    assert selector.asked == [True, False, True]
    assert selector.fetched == [1, 2]
    assert sum(times.counts) == 1


def test_a_device_leaves_what_a_grammar_allows() -> None:
    """Without the tokens that are not wanted, unless no others can come; no row is fetched."""
    selector, times = Selector(count=4), masks()
    rows = [sequence(Among(*allowed), None, (2, 3)) for allowed in ((0, 1, 3), (1,), (2,))]
    drawn = draw(on_device(selector), rows, times)
    assert drawn == [DrawnToken(1, None), DrawnToken(1, None), DrawnToken(2, None)]
    assert (selector.fetched, sum(times.counts)) == ([], 3)


def test_a_grammar_that_fails_beside_a_device_costs_its_own_row() -> None:
    rows = [sequence(), sequence(Broken(ConstraintFailedError("too much"))), sequence()]
    first, failure, last = draw(on_device(Selector(count=4)), rows, masks())
    assert first == last == DrawnToken(3, None)
    assert isinstance(failure, ConstraintFailedError)


def test_no_candidates_are_looked_for_where_none_are_wanted() -> None:
    selector = Selector(count=2, error=AssertionError())
    rows = [sequence(mirostat_target=5.0, temperature=1, seed=1) for _ in range(3)]
    drawn = draw(on_device(selector), rows, masks())
    assert all(isinstance(each, DrawnToken) for each in drawn)


def test_a_mask_that_is_not_ready_asks_a_device_for_nothing() -> None:
    selector = Selector(count=2)
    slow = sequence(Mock(late=True, skipped=False))
    slow.ready = False  # type: ignore[misc]
    drawn = draw(on_device(selector), [sequence(), slow, sequence()], masks())
    assert drawn == [DrawnToken(3, None), None, DrawnToken(3, None)]
    assert (selector.asked, selector.fetched) == ([True, False, True], [])


def test_a_device_that_fails_gives_every_row_its_error() -> None:
    """And no exception, which would end the engine's thread."""
    selector = Selector(count=2, error=RuntimeError("Failed to allocate memory"))
    drawn = draw(on_device(selector), [sequence(), sequence(), sequence()], masks())
    assert [type(each) for each in drawn] == [OutOfMemoryError] * 3


def test_candidates_that_are_not_finite_fail_their_own_row(monkeypatch: pytest.MonkeyPatch) -> None:
    failing = sequence()
    monkeypatch.setattr(failing.sampler, "draw_among", Mock(side_effect=InvalidLogitsError))
    drawn = draw(on_device(Selector(count=2)), [sequence(), failing, sequence()], masks())
    assert drawn[0] == drawn[2] == DrawnToken(3, None)
    assert isinstance(drawn[1], InvalidLogitsError)


def test_a_token_that_is_not_wanted_comes_where_no_other_can() -> None:
    """The end of a turn, where the text is to go on: only once nothing else is allowed."""
    rows = [sequence(Among(*allowed), None, (2, 3)) for allowed in ((0, 1, 3), (1, 2, 3), (2,))]
    assert draw(logits(), rows, masks()) == [
        DrawnToken(1, None),
        DrawnToken(1, None),
        DrawnToken(2, None),
    ]


@given(
    hnp.arrays(np.float32, st.integers(1, 40), elements=st.floats(-30, 30, width=32)),
    st.integers(0, 5),
    st.data(),
)
def test_observed_log_probabilities(row: Floats, count: int, data: st.DataObject) -> None:
    """They are those of the softmax; the alternatives are the most probable, in order."""
    token = data.draw(st.integers(0, len(row) - 1))
    seen = observe(row, token, min(count, len(row)))
    wide = row.astype(np.float64)
    truth = wide - np.logaddexp.reduce(wide)
    assert seen.logprob == pytest.approx(truth[token], abs=1e-6)
    values = [value for _, value in seen.top]
    assert values == pytest.approx(sorted(truth, reverse=True)[: len(values)], abs=1e-6)
    assert values == sorted(values, reverse=True)
    assert len(values) == min(count, len(row))
