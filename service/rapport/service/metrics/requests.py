"""Metrics of RPCs: how many there were, how they ended, and how long they took."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram

from rapport.service.engine.errors import Bound
from rapport.service.errors import SlowReaderError
from rapport.service.interceptors.context import RequestContext
from rapport.service.rpc.grpc_status import KINDS

# Upper bounds of histogram buckets.
LATENCY_BUCKETS_S = (
    *(0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1, 2, 4, 8, 15, 30, 60, 120, 300),
)
TOKEN_LATENCY_BUCKETS_S = (
    *(0.002, 0.004, 0.006, 0.008, 0.01, 0.0125, 0.015, 0.02, 0.025, 0.03, 0.04, 0.05),
    *(0.075, 0.1, 0.15, 0.25, 0.5, 1),
)
SLOW_READER = KINDS[SlowReaderError].reason


class RequestMetrics:
    """Counts RPCs that have ended.

    The values of labels are bounded: methods and codes by the protos, reasons by
    `rpc/grpc_status.py`, bounds by `engine/errors.py`, keys by how many the operator has issued.
    Users are unbounded, so they are no label; the access log has them as hashes.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"rapport_{name}", text, labels, registry=registry)

        def latency(
            name: str,
            text: str,
            *labels: str,
            buckets: tuple[float, ...] = LATENCY_BUCKETS_S,
        ) -> Histogram:
            name = f"rapport_{name}_seconds"
            return Histogram(name, text, labels, buckets=buckets, registry=registry)

        self._requests = counter("requests", "RPCs that have ended.", "method", "code")
        self._refused = counter(
            "refused_requests", "RPCs that failed before generation began.", "reason"
        )
        self._overloaded = counter("overloaded_requests", "RPCs refused for overload.", "bound")
        for bound in Bound:
            self._overloaded.labels(bound)
        self._slow_readers = counter(
            "stuck_readers", "RPCs aborted because the client stopped reading."
        )
        self._durations = latency("request_duration", "Duration of RPCs.", "method")
        self._queue = latency("queue_time", "Time queued before a slot was assigned.")
        self._ttft = latency(
            "time_to_first_token", "Time from the arrival of a request to its first token."
        )
        self._itl = latency(
            "inter_token_latency",
            "Mean time between the tokens of a request.",
            buckets=TOKEN_LATENCY_BUCKETS_S,
        )
        self._key_requests = counter("key_requests", "RPCs by API key.", "key")
        self._key_tokens = counter("key_tokens", "Tokens by API key.", "key", "kind")

    def observe(self, context: RequestContext) -> None:
        """Counts one RPC."""
        method = context.method.rpartition("/")[2]
        self._requests.labels(method, context.code.name).inc()
        self._durations.labels(method).observe(context.elapsed_s)
        if context.error_reason and context.generation is None:
            self._refused.labels(context.error_reason).inc()
        if context.overload_bound is not None:
            self._overloaded.labels(context.overload_bound).inc()
        self._slow_readers.inc(context.error_reason == SLOW_READER)
        for histogram, seconds in (
            (self._queue, context.queue_s),
            (self._ttft, context.ttft_s),
            (self._itl, context.itl_s),
        ):
            if seconds is not None:
                histogram.observe(seconds)
        if context.key_id:
            self._observe_key(context)

    def _observe_key(self, context: RequestContext) -> None:
        self._key_requests.labels(context.key_id).inc()
        if context.generation is not None:
            self._key_tokens.labels(context.key_id, "prompt").inc(context.prompt_tokens)
            self._key_tokens.labels(context.key_id, "completion").inc(context.completion_tokens)
