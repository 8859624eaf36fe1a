"""StatusService: the state of the service, for operators."""

from __future__ import annotations

import time
from importlib.metadata import version

from rapport.service.engine.engine import Engine
from rapport.service.interceptors.context import GrpcContext
from rapport.service.lifecycle import Lifecycle, State
from rapport.v1 import status_pb2 as protos
from rapport.v1.status_pb2_grpc import StatusServiceServicer

STATES = {
    State.LOADING: protos.STATE_LOADING,
    State.SERVING: protos.STATE_SERVING,
    State.DRAINING: protos.STATE_DRAINING,
    State.DEAD: protos.STATE_DEAD,
}


class StatusService(StatusServiceServicer):
    """Answers in every state of the service."""

    def __init__(self, lifecycle: Lifecycle) -> None:
        self._lifecycle = lifecycle
        self._version = version("rapport-server")
        self._started_at = time.monotonic()

    async def GetStatus(  # noqa: N802 - named by the proto
        self, _request: protos.GetStatusRequest, _context: GrpcContext
    ) -> protos.GetStatusResponse:
        status = protos.GetStatusResponse(
            state=STATES[self._lifecycle.state],
            version=self._version,
            uptime_seconds=time.monotonic() - self._started_at,
        )
        served = self._lifecycle.loaded
        if served is not None:
            _describe(served.engine, status)
        return status


def _describe(engine: Engine, status: protos.GetStatusResponse) -> None:
    """Fills in what is known once the model is loaded."""
    status.models.add(
        id=engine.spec.id,
        precision=engine.spec.precision,
        provider=engine.provider,
        context_length=engine.context_length,
    )
    now, requests, cache = engine.occupancy(), engine.counters, engine.prefix_stats
    status.occupancy.CopyFrom(
        protos.Occupancy(
            slots=now.slots,
            slots_used=now.slots_used,
            waiting_requests=now.waiting_requests,
            waiting_prompt_tokens=now.waiting_tokens,
            kv_tokens=now.kv_tokens,
            kv_reserved_tokens=now.kv_reserved_tokens,
            kv_budget_tokens=now.kv_budget_tokens,
            kv_bytes=now.kv_bytes,
            kv_budget_bytes=now.kv_budget_bytes,
        )
    )
    status.requests.CopyFrom(
        protos.RequestCounts(
            accepted=requests.accepted,
            finished=requests.finished,
            cancelled=requests.cancelled,
            failed=requests.failed,
        )
    )
    status.prefix_cache.CopyFrom(
        protos.PrefixCache(
            hits=cache.hits,
            misses=cache.misses,
            evictions=cache.evictions,
            blocks=cache.blocks,
            bytes=cache.bytes,
            budget_bytes=cache.budget_bytes,
        )
    )
