"""The one place that relies on a private name of grpcio.

When the pin of grpcio moves, look at `grpc/_cython/_cygrpc/aio/callback_common.pyx.pxi`, where
`ExecuteBatchError` is raised, and at `server.pyx.pxi` beside it, which logs what an RPC's handler
raises. If the logger or the class has another name now, change it here;
`tests/service/interceptors/test_grpc_internals.py` fails then.
"""

from __future__ import annotations

import logging

LOGGER = "grpc._cython.cygrpc"
SEND_ERROR = "ExecuteBatchError"


def mute_send_errors() -> None:
    """Keeps grpcio from logging callers that went away while a message was sent to them.

    grpcio logs them with a traceback, as if the servicer had failed. The access log has them.
    """
    logging.getLogger(LOGGER).addFilter(_is_not_send_error)


def _is_not_send_error(record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if record.exc_info else None
    return type(error).__name__ != SEND_ERROR
