"""The error responses, and the headers that come with them."""

from __future__ import annotations

from typing import Any

import grpc

from rapport.gateway.dialects.dialect import Dialect
from rapport.gateway.errors import HTTP_STATUSES, ApiError
from rapport.gateway.transcoding.rpc_errors import TOO_LARGE

BODY_STATUSES = (TOO_LARGE, 415)

# Name and text of each HTTP status.
_TEXTS = {
    400: ("BadRequest", "Something is wrong with the request: `message` says what, `param` where."),
    401: ("Unauthorized", "The API key is missing or wrong."),
    403: ("Forbidden", "The API key does not allow it."),
    404: ("NotFound", "What the request names does not exist."),
    409: ("Conflict", "It conflicts with what is there."),
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


class ErrorResponses:
    """The error responses of a dialect."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        exceptions = dialect.status_exceptions
        texts = _TEXTS | {each.http_status: (each.name, each.text) for each in exceptions}
        self._texts = dict(sorted(texts.items()))

    def references(self, *, has_body: bool) -> dict[str, Any]:
        """The error responses of an operation, by status."""
        return {
            str(status): {"$ref": f"#/components/responses/{name}"}
            for status, (name, _) in self._texts.items()
            if has_body or status not in BODY_STATUSES
        }

    def responses(self) -> dict[str, Any]:
        """The error responses by name."""
        return {name: self._response(status, text) for status, (name, text) in self._texts.items()}

    def _response(self, status: int, text: str) -> dict[str, Any]:
        codes = [code for code, known in HTTP_STATUSES.items() if known == status]
        causes = [code.name for code in codes]
        for each in self._dialect.status_exceptions:
            if each.http_status == status:
                codes.append(each.code)
                causes.append(f"{each.code.name} with reason {each.reason}")
        note = f" gRPC: {', '.join(causes)}." if causes else ""
        code = codes[-1] if codes else grpc.StatusCode.INVALID_ARGUMENT
        example = self._dialect.error_body(ApiError(status, code, text.replace("`", "")))
        return {
            "description": text + note,
            "headers": header_references(*_HEADERS.get(status, [])),
            "content": {
                "application/json": {
                    "schema": {"$ref": "#/components/schemas/Error"},
                    "example": example,
                }
            },
        }


def header_references(*names: str) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in ("x-request-id", *names)}
