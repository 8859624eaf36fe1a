"""The real server, called over both of its protocols."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
import httpx
import pytest

from bench.server import Target
from tests.contract.callers import Caller, Grpc, Rest
from tests.plain_http import NO_CERTIFICATES


@pytest.fixture(scope="session")
def rest(server: Target) -> Iterator[Rest]:
    """The server as REST callers see it."""
    with httpx.Client(
        base_url=str(server.rest), timeout=60, trust_env=False, verify=NO_CERTIFICATES
    ) as http:
        yield Rest(http)


@pytest.fixture(scope="session")
def rpc(server: Target) -> Iterator[Grpc]:
    """The server as gRPC callers see it."""
    with grpc.insecure_channel(str(server.grpc)) as channel:
        yield Grpc(channel)


@pytest.fixture(params=["rest", "grpc"])
def caller(request: pytest.FixtureRequest, rest: Rest, rpc: Grpc) -> Caller:
    """Each of the two, for what both promise."""
    return rest if request.param == "rest" else rpc
