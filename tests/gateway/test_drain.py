from __future__ import annotations

import pytest

from rapport.gateway.drain import Doors
from rapport.gateway.errors import ApiError


def test_states() -> None:
    """Leaving, only health checks are refused; closed, requests are as well."""
    doors = Doors()
    doors.check_health()
    doors.check()
    doors.leaving = True
    with pytest.raises(ApiError):
        doors.check_health()
    doors.check()
    doors.closed = True
    for check in (doors.check_health, doors.check):
        with pytest.raises(ApiError) as raised:
            check()
        assert (raised.value.status, raised.value.headers["connection"]) == (503, "close")


def fail_inside(doors: Doors) -> None:
    with doors.entered():
        assert doors.inside == 2
        raise ValueError("failed")


def test_who_is_inside() -> None:
    """Requests are counted while they are answered, also those that fail."""
    doors = Doors()
    with doors.entered():
        with pytest.raises(ValueError, match="failed"):
            fail_inside(doors)
        assert doors.inside == 1
    assert doors.inside == 0
