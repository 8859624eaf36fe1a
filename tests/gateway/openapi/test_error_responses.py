"""Error responses: each status that the gateway may send is described."""

from __future__ import annotations

import jsonschema_rs

from rapport.gateway.dialects.fireworks import FIREWORKS, MODEL_BROKEN
from rapport.gateway.errors import HTTP_STATUSES
from rapport.gateway.openapi.error_responses import ErrorResponses
from rapport.gateway.transcoding.rpc_errors import TOO_LARGE

ERRORS = ErrorResponses(FIREWORKS)


def test_every_status_is_described() -> None:
    """Every status that a gRPC error is mapped to is among an operation's responses."""
    mapped = {str(status) for status in (*HTTP_STATUSES.values(), MODEL_BROKEN.http_status)}
    assert ERRORS.references(has_body=False).keys() == mapped
    with_body = {*mapped, str(TOO_LARGE), "415"}
    assert ERRORS.references(has_body=True).keys() == with_body


def test_examples_are_errors() -> None:
    """The example of each response fits the schema of errors, with the code of its status."""
    check = jsonschema_rs.validator_for(FIREWORKS.error_schema)
    for response in ERRORS.responses().values():
        check.validate(response["content"]["application/json"]["example"])
    limited = ERRORS.responses()["TooManyRequests"]
    error = limited["content"]["application/json"]["example"]["error"]
    assert (error["type"], error["code"]) == ("error", "RESOURCE_EXHAUSTED")
    assert limited["description"].endswith(" gRPC: RESOURCE_EXHAUSTED.")
    assert "retry-after" in limited["headers"]
