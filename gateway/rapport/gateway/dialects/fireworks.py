"""The dialect of Fireworks' API, which OpenAI's clients speak as well.

Source: the page "Create Chat Completion" of Fireworks' API reference.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import grpc
from google.protobuf.message import Message

from rapport.affinity import AFFINITY_HEADER, affinity_key
from rapport.gateway.dialects.dialect import StatusException
from rapport.gateway.errors import ApiError

BAD_REQUEST = "invalid_request_error"
SERVER_ERROR = "internal_server_error"

# The type and the code of an error, by its gRPC status.
TYPES_AND_CODES: Mapping[grpc.StatusCode, tuple[str, str]] = {
    grpc.StatusCode.CANCELLED: ("error", "CANCELLED"),
    grpc.StatusCode.UNKNOWN: (SERVER_ERROR, SERVER_ERROR),
    grpc.StatusCode.INVALID_ARGUMENT: (BAD_REQUEST, BAD_REQUEST),
    grpc.StatusCode.DEADLINE_EXCEEDED: ("error", "DEADLINE_EXCEEDED"),
    grpc.StatusCode.NOT_FOUND: ("error", "NOT_FOUND"),
    grpc.StatusCode.ALREADY_EXISTS: ("error", "ALREADY_EXISTS"),
    grpc.StatusCode.PERMISSION_DENIED: ("error", "FORBIDDEN"),
    grpc.StatusCode.RESOURCE_EXHAUSTED: ("error", "RESOURCE_EXHAUSTED"),
    grpc.StatusCode.FAILED_PRECONDITION: (BAD_REQUEST, BAD_REQUEST),
    grpc.StatusCode.ABORTED: ("error", "ABORTED"),
    grpc.StatusCode.OUT_OF_RANGE: (BAD_REQUEST, BAD_REQUEST),
    grpc.StatusCode.UNIMPLEMENTED: ("error", "UNIMPLEMENTED"),
    grpc.StatusCode.INTERNAL: (SERVER_ERROR, SERVER_ERROR),
    grpc.StatusCode.UNAVAILABLE: ("error", "UNAVAILABLE"),
    grpc.StatusCode.DATA_LOSS: (SERVER_ERROR, SERVER_ERROR),
    grpc.StatusCode.UNAUTHENTICATED: ("error", "UNAUTHORIZED"),
}
MODEL_BROKEN = StatusException(
    grpc.StatusCode.FAILED_PRECONDITION,
    "MODEL_BROKEN",
    412,
    "PreconditionFailed",
    "The model cannot be loaded.",
)


class FireworksDialect:
    """One shape for all errors, and `[DONE]` at the end of a stream."""

    forwarded_headers: Sequence[str] = ("authorization",)
    returned_prefixes: tuple[str, ...] = ("x-ratelimit-", "fireworks-", "rapport-")
    status_exceptions: Sequence[StatusException] = (MODEL_BROKEN,)
    stream_end = b"data: [DONE]\n\n"
    stream_text = (
        "The data of each event is one such object. The last event's data is `[DONE]`. A stream "
        "that fails has an error as its last event, no `[DONE]`, and breaks off."
    )
    error_schema: Mapping[str, Any] = {
        "description": "What went wrong. All errors have this shape, in streams too.",
        "type": "object",
        "properties": {
            "error": {
                "type": "object",
                "properties": {
                    "object": {"type": "string", "const": "error"},
                    "type": {
                        "description": "Whose fault it is.",
                        "type": "string",
                        "enum": [BAD_REQUEST, "error", SERVER_ERROR],
                    },
                    "code": {"description": "What happened, for programs.", "type": "string"},
                    "message": {"description": "What happened, for people.", "type": "string"},
                    "param": {
                        "description": "The JSON path of the first member at fault.",
                        "type": ["string", "null"],
                    },
                },
                "required": ["object", "type", "code", "message", "param"],
            }
        },
        "required": ["error"],
    }

    def routing(self, request: Message, headers: Mapping[str, str]) -> Mapping[str, str]:
        """The key by which requests with the same beginning find it computed."""
        key = affinity_key(request, headers)
        return {AFFINITY_HEADER: key} if key else {}

    def error_body(self, error: ApiError) -> Mapping[str, Any]:
        """The JSON of an error."""
        kind, code = TYPES_AND_CODES[error.code]
        if error.reason == MODEL_BROKEN.reason:
            kind, code = "error", MODEL_BROKEN.code.name
        shape = {"object": "error", "type": kind, "code": code}
        return {"error": {**shape, "message": error.message, "param": error.param}}


FIREWORKS = FireworksDialect()
