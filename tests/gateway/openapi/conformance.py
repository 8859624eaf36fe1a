"""Schemathesis: random requests from a description, and whether the answers keep to it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import httpx
import orjson
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import Case, GenerationMode
from schemathesis.checks import CHECKS

from tests.plain_http import NO_CERTIFICATES

Tame = Callable[[Case], Case]


@schemathesis.deserializer("text/event-stream")
def chunks(_: Any, response: Any) -> list[Any]:
    """The objects of a stream; it ends with [DONE], or with an error."""
    lines = response.content.decode().split("\n\n")
    events = [line.removeprefix("data: ") for line in lines if not line.startswith(":")][:-1]
    if response.stream_cut_short:  # Schemathesis reads no more than 20.
        return [orjson.loads(event) for event in events]
    last = events.pop()
    assert last == "[DONE]" or orjson.loads(last)["error"]["object"] == "error"
    return [orjson.loads(event) for event in events]


def explore(
    url: str,
    *,
    examples: int,
    tame: Tame,
    paths: str = "",
    excluded: tuple[str, ...] = (),
    allowed: int = 0,
) -> Counter[tuple[str, int]]:
    """Calls the operations whose path matches, and counts the answers by operation and status.

    Raises a failure for an answer that the description does not have, a status of
    500 and above (but the one allowed), a good request refused and a bad one taken.
    """
    document = _unlimited(_closed(httpx.get(f"{url}/openapi.json", verify=NO_CERTIFICATES).json()))
    operations = schemathesis.openapi.from_dict(document).include(path_regex=paths)
    seen: Counter[tuple[str, int]] = Counter()
    names = {*CHECKS.get_all_names()} - {*excluded, "not_a_server_error"}
    checks = CHECKS.get_by_names(sorted(names))

    def call(case: Case) -> None:
        reply = case.call(base_url=url, timeout=30)
        seen[case.operation.label, reply.status_code] += 1
        assert reply.status_code < 500 or reply.status_code == allowed, reply.text
        # Of a body that is too large nobody knows whether it keeps to the schema.
        if reply.status_code != HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            case.validate_response(reply, checks=checks)

    for operation in (result.ok() for result in operations.get_all_operations()):
        _quick(examples)(given(case=operation.as_strategy().map(tame))(call))()
        if _can_be_wrong(operation):
            bad = operation.as_strategy(GenerationMode.NEGATIVE).filter(_is_all_in_the_url)
            _quick(examples)(given(case=bad)(call))()
    return seen


def _can_be_wrong(operation: Any) -> bool:
    """Whether it takes anything but texts."""
    parameters = operation.definition.raw["parameters"]
    schemas = [one["schema"] for one in parameters if "schema" in one]
    return bool(operation.body) or any(schema.get("type") != "string" for schema in schemas)


def _is_all_in_the_url(case: Case) -> bool:
    """Whether nothing vanishes from the query: without what is wrong the rest may be right."""
    return all(value not in ([], {}, None) for value in (case.query or {}).values())


def _quick(examples: int) -> settings:
    return settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )


def _unlimited(document: dict[str, Any]) -> dict[str, Any]:
    """Without time limits: a tiny one would end every call. That it does is tested elsewhere."""
    limit = {"$ref": "#/components/parameters/grpc-timeout"}
    for operation in (each for item in document["paths"].values() for each in item.values()):
        operation["parameters"].remove(limit)
    return document


def _closed(document: dict[str, Any]) -> dict[str, Any]:
    """The description with no room in answers for members that it does not have."""
    for schema in document["components"]["schemas"].values():
        for one in (schema, *schema.get("oneOf", [])):
            if "properties" in one:
                one.setdefault("additionalProperties", False)
    return document
