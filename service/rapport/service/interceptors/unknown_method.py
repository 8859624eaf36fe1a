"""Calls of methods that no service has."""

from __future__ import annotations

import grpc

from rapport.service.interceptors.access_log import log_failures
from rapport.service.interceptors.context import GrpcContext, RequestContext
from rapport.service.interceptors.grpc_internals import Refusal
from rapport.service.interceptors.scope import request_id

# What the log has for the method's name, which is not read: it may be no text.
UNKNOWN_METHOD = "(unknown method)"
CODE, REASON, DETAILS = grpc.StatusCode.UNIMPLEMENTED, "UNKNOWN_METHOD", "Method not found!"


def refusing_unknown_methods() -> Refusal:
    """Ends a call as gRPC itself does, and logs it, one a second at most."""
    log = log_failures()

    async def refuse(_: object, rpc: GrpcContext) -> None:
        context = RequestContext(rpc, UNKNOWN_METHOD, request_id(rpc))
        context.code, context.error_reason = CODE, REASON
        log(context)
        await rpc.abort(CODE, DETAILS)

    return refuse
