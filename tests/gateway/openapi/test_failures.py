"""Error responses: each status that the gateway may send is described."""

from __future__ import annotations

import jsonschema_rs

from rapport.gateway.errors import MODEL_BROKEN, STATUSES, TOO_LARGE
from rapport.gateway.openapi import failures


def test_every_status_is_described() -> None:
    """Every status that a gRPC error is mapped to is among an operation's responses."""
    mapped = {str(status) for status, _, _ in (*STATUSES.values(), MODEL_BROKEN)}
    assert failures.references(has_body=False).keys() == mapped
    with_body = {*mapped, str(TOO_LARGE[0]), "415"}
    assert failures.references(has_body=True).keys() == with_body


def test_examples_are_errors() -> None:
    """The example of each response fits the schema of errors, with the code of its status."""
    check = jsonschema_rs.validator_for(failures.ERROR)
    for response in failures.responses().values():
        check.validate(response["content"]["application/json"]["example"])
    limited = failures.responses()["TooManyRequests"]
    error = limited["content"]["application/json"]["example"]["error"]
    assert (error["type"], error["code"]) == ("error", "RESOURCE_EXHAUSTED")
    assert limited["description"].endswith(" gRPC: RESOURCE_EXHAUSTED.")
    assert "retry-after" in limited["headers"]
