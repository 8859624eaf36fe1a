"""Where targets of gRPC lead to."""

from __future__ import annotations

import pytest

from rapport.gateway.upstream.target import is_local, is_socket


@pytest.mark.parametrize(
    "target",
    [
        "127.0.0.1:50051",
        "localhost:50051",
        "[::1]:50051",
        "0.0.0.0:50051",
        "dns:///localhost:50051",
        "ipv4:127.0.0.1:1,127.0.0.2:2",
        "ipv6:[::1]:1",
        "unix:grpc",
        "unix:///run/grpc",
        "unix-abstract:grpc",
    ],
)
def test_this_machine(target: str) -> None:
    """Loopback addresses and sockets are on this machine."""
    assert is_local(target)
    assert is_socket(target) == target.startswith("unix")


@pytest.mark.parametrize(
    "target",
    ["10.0.0.1:50051", "service:50051", "dns:///service:1", "ipv4:127.0.0.1:1,10.0.0.1:1", ""],
)
def test_other_machines(target: str) -> None:
    """All else may be on another, also if only one of its addresses is."""
    assert not is_local(target)
