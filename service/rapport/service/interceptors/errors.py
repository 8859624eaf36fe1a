"""Turning exceptions into gRPC statuses."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc

from rapport.common.telemetry.formatters import fields
from rapport.service.interceptors.context import RequestContext
from rapport.service.rpc.grpc_status import kind_of

logger = logging.getLogger(__name__)


@asynccontextmanager
async def report_errors(context: RequestContext) -> AsyncIterator[None]:
    """Ends the RPC with the status of an exception, and logs those that are the server's fault."""
    try:
        yield
    except grpc.aio.AbortError:
        raise  # it has a status already
    except Exception as error:
        if kind_of(error).code is grpc.StatusCode.INTERNAL:
            request_id = context.request_id
            extra = fields(request_id=request_id)
            logger.exception("%s failed, request %s", context.method, request_id, extra=extra)
        await context.abort(error)
