"""The Fireworks dialect: the body of every error."""

from __future__ import annotations

import grpc
import pytest

from rapport.gateway.dialects.fireworks import FIREWORKS, TYPES_AND_CODES
from rapport.gateway.errors import HTTP_STATUSES, ApiError, bad_request


def test_every_status_has_a_type_and_a_code() -> None:
    """There is no gRPC status but OK without them."""
    assert TYPES_AND_CODES.keys() == HTTP_STATUSES.keys()


@pytest.mark.parametrize("status", [400, 405, 408, 413, 415, 431])
def test_requests_that_are_wrong(status: int) -> None:
    """The gateway's own refusals have the type of bad requests, whatever their HTTP status."""
    error = FIREWORKS.error_body(bad_request("why", param="a[0].b", status=status))["error"]
    assert error == {
        "object": "error",
        "type": "invalid_request_error",
        "code": "invalid_request_error",
        "message": "why",
        "param": "a[0].b",
    }


def test_a_broken_model_is_no_bad_request() -> None:
    """FAILED_PRECONDITION is the caller's mistake, unless the model is broken."""
    for reason, kind in ((None, "invalid_request_error"), ("MODEL_BROKEN", "error")):
        error = ApiError(400, grpc.StatusCode.FAILED_PRECONDITION, "why", reason=reason)
        assert FIREWORKS.error_body(error)["error"]["type"] == kind
