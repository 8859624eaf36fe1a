"""The error responses, and the headers that come with them."""

from __future__ import annotations

from typing import Any

from rapport.gateway.errors import BAD_REQUEST, MODEL_BROKEN, SERVER_ERROR, STATUSES, TOO_LARGE
from rapport.gateway.openapi.scalars import Schema

BODY_STATUSES = (TOO_LARGE[0], 415)

# Name and text of each HTTP status.
_TEXTS = {
    400: ("BadRequest", "Something is wrong with the request: `message` says what, `param` where."),
    401: ("Unauthorized", "The API key is missing or wrong."),
    403: ("Forbidden", "The API key does not allow it."),
    404: ("NotFound", "What the request names does not exist."),
    409: ("Conflict", "It conflicts with what is there."),
    412: ("PreconditionFailed", "The model cannot be loaded."),
    413: ("ContentTooLarge", "The request is larger than the server takes."),
    415: ("UnsupportedMediaType", "The body is not declared to be JSON."),
    429: ("TooManyRequests", "The server or the key has as many requests as it may. Try later."),
    499: ("ClientClosedRequest", "The call was cancelled."),
    500: ("InternalServerError", "The server had an error. Its log has it by `x-request-id`."),
    501: ("NotImplemented", "The server cannot do this. Trying again does not help."),
    503: ("ServiceUnavailable", "The server is starting, stopping or away. Try again later."),
    504: ("GatewayTimeout", "It took longer than it may."),
}
_HEADERS = {
    401: ["www-authenticate"],
    429: ["retry-after", "retry-after-ms"],
    500: ["x-should-retry"],
    501: ["x-should-retry"],
    503: ["retry-after", "retry-after-ms"],
    504: ["x-should-retry"],
}

HEADERS: dict[str, Any] = {
    "x-request-id": {
        "description": "The request's id in the server's logs: the caller's own, or a new one.",
        "required": True,
        "schema": {"type": "string"},
    },
    "www-authenticate": {"description": "Always `Bearer`.", "schema": {"type": "string"}},
    "retry-after": {
        "description": "Seconds after which trying again may help.",
        "schema": {"type": "integer"},
    },
    "retry-after-ms": {
        "description": "The same in milliseconds, where it is known so exactly.",
        "schema": {"type": "integer"},
    },
    "x-should-retry": {
        "description": "`false` where trying again does not help.",
        "schema": {"type": "string"},
    },
}

ERROR: Schema = {
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


def references(*, has_body: bool) -> dict[str, Any]:
    """The error responses of an operation, by status."""
    return {
        str(status): {"$ref": f"#/components/responses/{name}"}
        for status, (name, _) in _TEXTS.items()
        if has_body or status not in BODY_STATUSES
    }


def responses() -> dict[str, Any]:
    """The error responses by name."""
    return {name: _response(status, text) for status, (name, text) in _TEXTS.items()}


def header_references(*names: str) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in ("x-request-id", *names)}


def _response(status: int, text: str) -> dict[str, Any]:
    causes = [cause.name for cause, known in STATUSES.items() if known[0] == status]
    causes += ["FAILED_PRECONDITION with reason MODEL_BROKEN"] if status == MODEL_BROKEN[0] else []
    note = f" gRPC: {', '.join(causes)}." if causes else ""
    known = {entry[0]: entry for entry in (*STATUSES.values(), MODEL_BROKEN, TOO_LARGE)}
    _, kind, code = known.get(status, (status, BAD_REQUEST, BAD_REQUEST))
    message = text.replace("`", "")
    shown = {"object": "error", "type": kind, "code": code, "message": message, "param": None}
    return {
        "description": text + note,
        "headers": header_references(*_HEADERS.get(status, [])),
        "content": {
            "application/json": {
                "schema": {"$ref": "#/components/schemas/Error"},
                "example": {"error": shown},
            }
        },
    }
