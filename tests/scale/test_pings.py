"""Clients that ping to keep their connections."""

from __future__ import annotations

import time

import pytest

from bench.server import Target
from tests.fuzz import http2

pytestmark = pytest.mark.scale

PING, GOAWAY = 6, 7
ACK = 1
# Clients mean 10 s and are early by some milliseconds; half of it is allowed.
INTERVAL_S = 5.1
# gRPC's servers close a connection after two pings that come too early.
PINGS = 5


def test_pings_are_answered(server: Target) -> None:
    """A connection without calls may ping every 5 s."""
    with http2.connect(str(server.grpc)) as client:
        client.sendall(http2.OPENING)
        for number in range(PINGS):
            client.sendall(http2.frame(PING, 0, 0, number.to_bytes(8, "big")))
            time.sleep(INTERVAL_S)
        kinds = [(kind, flags) for kind, flags in http2.frames(http2.received(client))]
    assert kinds.count((PING, ACK)) == PINGS
    assert GOAWAY not in dict(kinds)
