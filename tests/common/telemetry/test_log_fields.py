"""The table of fields in docs/observability.md."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from rapport.gateway import access_log as gateway_access
from rapport.service.engine.generation import Generation
from rapport.service.engine.request import GenerationRequest
from rapport.service.interceptors import access_log as service_access
from tests.gateway.peers import exchange
from tests.service.fakes import request_context

PAGE = Path(__file__).parents[3] / "docs" / "observability.md"
COMMON = {"time", "level", "logger", "message", "exception"}
ROW = re.compile(r"\| (`[^|]+`) \| (all|both|gateway|service) \|")


@pytest.fixture(scope="module")
def documented() -> dict[str, set[str]]:
    """The fields by the lines that they are in."""
    section = PAGE.read_text().partition("\n## Logs\n")[2].partition("\n## ")[0]
    found: dict[str, set[str]] = {}
    for names, where in ROW.findall(section):
        found.setdefault(where, set()).update(re.findall(r"`(\w+)`", names))
    return found


async def test_gateway(documented: dict[str, set[str]]) -> None:
    """The page has the gateway's fields, and no others."""
    fields = gateway_access.fields_of(exchange(), "")
    assert fields.keys() == documented["both"] | documented["gateway"]


def test_service(documented: dict[str, set[str]]) -> None:
    """The page has the service's fields, and no others."""
    generation = Generation(GenerationRequest((1,), 1), lambda _: None)
    fields = service_access.fields_of(request_context(generation=generation))
    assert fields.keys() == documented["both"] | documented["service"]


def test_every_line(documented: dict[str, set[str]]) -> None:
    """The page has what all lines have."""
    assert documented["all"] == COMMON
