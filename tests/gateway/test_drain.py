from __future__ import annotations

import pytest

from rapport.gateway.drain import DrainState
from rapport.gateway.errors import ApiError


def test_states() -> None:
    """Health checks fail first; later new requests are refused as well."""
    drain = DrainState()
    drain.check_health()
    drain.check_accepting()
    drain.health_fails = True
    with pytest.raises(ApiError):
        drain.check_health()
    drain.check_accepting()
    drain.refuses_requests = True
    for check in (drain.check_health, drain.check_accepting):
        with pytest.raises(ApiError) as raised:
            check()
        assert (raised.value.status, raised.value.headers["connection"]) == (503, "close")


def fail_inside(drain: DrainState) -> None:
    with drain.tracked():
        assert drain.in_flight == 2
        raise ValueError("failed")


def test_requests_in_flight_are_counted() -> None:
    """Requests are counted while they are answered, also those that fail."""
    drain = DrainState()
    with drain.tracked():
        with pytest.raises(ValueError, match="failed"):
            fail_inside(drain)
        assert drain.in_flight == 1
    assert drain.in_flight == 0
