"""The metrics of the gateway: HTTP requests, and the connection to the service."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import grpc
from prometheus_client import Counter, Gauge, Histogram

from rapport.common.metrics.certificates import Certificates
from rapport.common.metrics.registry import new_registry
from rapport.gateway.http1.exchange import Exchange

# Upper bounds of the buckets, in seconds.
WAITS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60, 120, 300)
VERBS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
STATES = tuple(grpc.ChannelConnectivity)


class GatewayMetrics:
    """Labels are bounded: routes are templates, and what no route is for is `other`."""

    def __init__(self) -> None:
        registry = self.registry = new_registry("gateway")
        self.certificates = Certificates("rapport_gateway")
        registry.register(self.certificates)

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"rapport_gateway_{name}", text, labels, registry=registry)

        def times(name: str, text: str) -> Histogram:
            name = f"rapport_gateway_{name}_seconds"
            return Histogram(name, text, ["route"], buckets=WAITS, registry=registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"rapport_gateway_{name}", text, labels, registry=registry)

        self._requests = counter(
            "requests", "HTTP requests that have ended.", "route", "method", "status"
        )
        self._durations = times(
            "request_duration", "Time from the request's headers to the last byte of the answer."
        )
        self._first_bytes = times(
            "time_to_first_byte", "Time from the request's headers to the first byte of the answer."
        )
        self._received = counter("received_bytes", "Bytes of request bodies.", "route")
        self._sent = counter("sent_bytes", "Bytes of answer bodies.", "route")
        self._disconnects = counter(
            "disconnects", "Clients that disconnected before the end of the answer.", "route"
        )
        self.stuck_readers = counter(
            "stuck_readers", "Connections closed because the client stopped reading."
        )
        self._in_flight = gauge("requests_in_flight", "Requests in flight.")
        self._state = gauge(
            "upstream_state",
            "State of the connection to the service: 1 for the current one.",
            "state",
        )
        self._connects = counter(
            "upstream_connects",
            "Connections made to the service; all but the first are reconnects.",
        )

    @contextmanager
    def watch(self, exchange: Exchange) -> Iterator[None]:
        """Counts an exchange, which ends with the `with`."""
        self._in_flight.inc()
        try:
            yield
        finally:
            self._in_flight.dec()
            self._count(exchange)

    def _count(self, exchange: Exchange) -> None:
        route = exchange.route or "other"
        method = exchange.method if exchange.method in VERBS else "other"
        self._requests.labels(route, method, str(exchange.status)).inc()
        self._durations.labels(route).observe(exchange.duration)
        if exchange.ttfb is not None:
            self._first_bytes.labels(route).observe(exchange.ttfb)
        self._received.labels(route).inc(exchange.received_bytes)
        self._sent.labels(route).inc(exchange.sent_bytes)
        if exchange.disconnected:
            self._disconnects.labels(route).inc()

    async def follow(self, channel: grpc.aio.Channel) -> None:
        """Tells of the connection, until it is cancelled."""
        state = channel.get_state()
        while True:
            self._connects.inc(state is grpc.ChannelConnectivity.READY)
            for each in STATES:
                self._state.labels(each.name.lower()).set(each is state)
            await channel.wait_for_state_change(state)
            state = channel.get_state()
