"""Hosts that requests may be for, as a defence against DNS rebinding."""

from __future__ import annotations

import pytest

from rapport.gateway.config import GatewaySettings
from rapport.gateway.errors import ApiError
from tests.gateway.conftest import Serve

ADDRESSES = [
    "localhost",
    "localhost:8080",
    "LOCALHOST.",
    "a.localhost:1",
    "127.0.0.1:80",
    "[::1]:80",
]
FOREIGN = ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "localhost.evil.example."]


def is_allowed(host: str, **settings: str) -> bool:
    hosts = GatewaySettings(allow_public_bind=True, **settings).hosts  # type: ignore[arg-type]
    try:
        hosts.check(host)
    except ApiError:
        return False
    return True


@pytest.mark.parametrize("host", [*ADDRESSES, "gateway", ""])
def test_own_names(host: str) -> None:
    """This machine, addresses, and names that nobody can register are always allowed."""
    assert is_allowed(host)
    assert is_allowed(host, http_host="0.0.0.0", allowed_hosts="api.example.org")  # noqa: S104


@pytest.mark.parametrize("host", [*FOREIGN, "[::1", "a b.c", "http://x.y"])
def test_foreign_names(host: str) -> None:
    """On a loopback address no other name is served, nor where names are listed."""
    assert not is_allowed(host)
    assert not is_allowed(host, http_host="0.0.0.0", allowed_hosts="api.example.org")  # noqa: S104


def test_listed_names() -> None:
    """The setting's names are allowed, with any port and in any case."""
    for host in ("api.example.org", "API.example.org:443", "b.example.org."):
        assert is_allowed(host, allowed_hosts="api.example.org, b.example.org")


def test_public_address() -> None:
    """Where others reach the gateway anyway, and no names are listed, any name will do."""
    assert is_allowed("api.example.org", http_host="0.0.0.0")  # noqa: S104


@pytest.mark.parametrize("path", ["/v1/books/7", "/health"])
async def test_request_of_a_rebound_page(serve: Serve, path: str) -> None:
    """A request under a foreign name is a 421 that names the setting."""
    async with serve() as client:
        reply = await client.get(path, headers={"host": "evil.example"})
        assert reply.status_code == 421
        assert "allowed_hosts" in reply.json()["error"]["message"]
