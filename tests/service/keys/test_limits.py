from __future__ import annotations

from rapport.service.keys.limits import KeyLimits


class Given(KeyLimits):
    other: str = ""


def test_what_is_set_goes_before_the_default() -> None:
    """A limit that is set holds, also at 0; the rest is the default's."""
    default = KeyLimits(requests_per_minute=5, concurrent=2)
    given = Given(requests_per_minute=0, user_concurrent=1, other="x")
    assert KeyLimits.of(given, default) == KeyLimits(concurrent=2, user_concurrent=1)


def test_without_a_default_there_is_no_limit() -> None:
    """Nothing is limited that nobody limited."""
    assert not any(KeyLimits.of(Given(other="x")).model_dump().values())
