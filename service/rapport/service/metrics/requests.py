"""Requests as callers see them: how many, how they ended, how long they took."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram

from rapport.service.engine.errors import Bound
from rapport.service.errors import SlowReaderError
from rapport.service.interceptors.context import RequestContext
from rapport.service.rpc.grpc_status import KINDS

# Upper bounds of the buckets, in seconds.
WAITS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60, 120, 300)
TOKEN_WAITS = (
    *(0.002, 0.004, 0.006, 0.008, 0.01, 0.0125, 0.015, 0.02, 0.025, 0.03, 0.04, 0.05),
    *(0.075, 0.1, 0.15, 0.25, 0.5, 1),
)
STUCK = KINDS[SlowReaderError].reason


class RequestMetrics:
    """Takes the account of each RPC that has ended.

    Labels are bounded: methods and codes by the protos, reasons by `rpc/grpc_status.py`, bounds by
    `engine/errors.py`, keys by what the operator has given out. Users are not: who they
    are is in the log, as a hash.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"rapport_{name}", text, labels, registry=registry)

        def times(name: str, text: str, *labels: str, bounds: tuple[float, ...]) -> Histogram:
            name = f"rapport_{name}_seconds"
            return Histogram(name, text, labels, buckets=bounds, registry=registry)

        self._requests = counter("requests", "RPCs that have ended.", "method", "code")
        self._refused = counter("refused_requests", "RPCs that asked for no token.", "reason")
        self._overloaded = counter("overloaded_requests", "Of those, for overload.", "bound")
        for bound in Bound:
            self._overloaded.labels(bound)
        self._stuck = counter("stuck_readers", "RPCs given up, for nobody read the answer.")
        self._durations = times("request_duration", "Of RPCs.", "method", bounds=WAITS)
        self._queued = times("queue_time", "From the engine's door to a slot.", bounds=WAITS)
        self._ttft = times("time_to_first_token", "From the arrival.", bounds=WAITS)
        self._itl = times(
            "inter_token_latency", "Mean over each request's tokens.", bounds=TOKEN_WAITS
        )
        self._key_requests = counter("key_requests", "RPCs of each API key.", "key")
        self._key_tokens = counter("key_tokens", "Tokens of each API key.", "key", "kind")

    def record(self, ended: RequestContext) -> None:
        """Counts an RPC."""
        method = ended.method.rpartition("/")[2]
        self._requests.labels(method, ended.code.name).inc()
        self._durations.labels(method).observe(ended.elapsed_s)
        if ended.error_reason and ended.generation is None:
            self._refused.labels(ended.error_reason).inc()
        if ended.overload_bound is not None:
            self._overloaded.labels(ended.overload_bound).inc()
        self._stuck.inc(ended.error_reason == STUCK)
        for histogram, seconds in (
            (self._queued, ended.queue_s),
            (self._ttft, ended.ttft_s),
            (self._itl, ended.itl_s),
        ):
            if seconds is not None:
                histogram.observe(seconds)
        if ended.key_id:
            self._count_key(ended)

    def _count_key(self, ended: RequestContext) -> None:
        self._key_requests.labels(ended.key_id).inc()
        if ended.generation is not None:
            self._key_tokens.labels(ended.key_id, "prompt").inc(ended.prompt_tokens)
            self._key_tokens.labels(ended.key_id, "completion").inc(ended.completion_tokens)
