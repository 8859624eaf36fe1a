"""Operations: what a route takes and what it answers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any

from google.protobuf.descriptor import MethodDescriptor

from rapport.gateway.openapi.comments import Comments
from rapport.gateway.openapi.error_responses import ErrorResponses, header_references
from rapport.gateway.openapi.paths import path_and_parameters, query_parameters
from rapport.gateway.openapi.schemas import Schemas
from rapport.gateway.transcoding.codec import rules
from rapport.gateway.transcoding.methods import stream_rule
from rapport.gateway.transcoding.routes import Route

PARAMETERS: dict[str, Any] = {
    "x-request-id": {
        "name": "x-request-id",
        "in": "header",
        "description": "An id for the request, 1 to 128 printable ASCII characters. "
        "Without one, or with a bad one, the server makes it up.",
        "schema": {"type": "string"},
    },
    "grpc-timeout": {
        "name": "grpc-timeout",
        "in": "header",
        "description": "How long the answer may take: digits and a unit, "
        "H, M, S, m (milliseconds), u (microseconds) or n (nanoseconds).",
        "schema": {"type": "string", "pattern": "^[0-9]{1,8}[HMSmun]$"},
        "example": "30S",
    },
}
JSON = "application/json"
EVENTS = "text/event-stream"
_WORD = re.compile(r"[A-Z]?[a-z0-9]+|[A-Z]+(?![a-z])")


@dataclass(frozen=True, slots=True)
class Operations:
    """Describes routes. The schemas gather what the operations refer to."""

    read: Schemas
    written: Schemas
    comments: Comments
    errors: ErrorResponses
    stream_text: str

    def of(self, routes: list[Route]) -> dict[str, Any]:
        """The paths with their operations."""
        paths: dict[str, dict[str, Any]] = {}
        ids: set[str] = set()
        for route in routes:
            path, parameters = path_and_parameters(route, self.read)
            name = next(name for name in _names(route.rpc) if name not in ids)
            ids.add(name)
            operation = {"operationId": name, **self._operation(route, parameters)}
            paths.setdefault(path, {})[route.verb.lower()] = operation
        return paths

    def _operation(self, route: Route, parameters: list[Any]) -> dict[str, Any]:
        rpc, text = route.rpc, self.comments.of(route.rpc)
        shared = [{"$ref": f"#/components/parameters/{name}"} for name in PARAMETERS]
        return {
            "summary": _words(rpc.name),
            **({"description": text} if text else {}),
            **({"deprecated": True} if rpc.GetOptions().deprecated else {}),
            "tags": [rpc.containing_service.name],
            "x-grpc-method": f"{rpc.containing_service.full_name}/{rpc.name}",
            **({"x-stream-flag": _flag(rpc)} if _flag(rpc) else {}),
            "parameters": [*parameters, *query_parameters(route, self.read), *shared],
            **({"requestBody": self._body(route)} if route.has_body else {}),
            "responses": {
                "200": self._success(route),
                **self.errors.references(has_body=route.has_body),
            },
        }

    def _body(self, route: Route) -> dict[str, Any]:
        message, in_path = route.rpc.input_type, route.template.variables
        schema = self.read.without(message, in_path) if in_path else self.read.message(message)
        example = _example(self.comments.examples(route.rpc)[:1])
        return {"required": True, "content": {JSON: {"schema": schema, **example}}}

    def _success(self, route: Route) -> dict[str, Any]:
        rpc, stream = route.rpc, streamed(route.rpc)
        content: dict[str, Any] = {}
        texts = ["The answer."]
        if not rpc.server_streaming:
            # The first example of an RPC with a body is one of that.
            examples = self.comments.examples(rpc)[int(route.has_body) :]
            schema = self.written.message(rpc.output_type)
            content[JSON] = {"schema": schema, **_example(examples)}
        if stream is not None:
            schema = self.written.message(stream.output_type)
            content[EVENTS] = {"schema": schema, **_example(self.comments.examples(stream))}
            texts.append(self._events(rpc, stream))
        headers = header_references()
        return {"description": "\n\n".join(texts), "headers": headers, "content": content}

    def _events(self, rpc: MethodDescriptor, stream: MethodDescriptor) -> str:
        if stream is rpc:
            return f"It is a stream of server-sent events. {self.stream_text}"
        how = f"With `{_flag(rpc)}: true` it is a stream of server-sent events. {self.stream_text}"
        return f"{how}\n\n{self.comments.of(stream)}".strip()


def _names(rpc: MethodDescriptor) -> Iterator[str]:
    """Names for the operations of an RPC, or of several with the same name."""
    yield rpc.name
    yield from (f"{rpc.name}_{number}" for number in count(2))


def streamed(rpc: MethodDescriptor) -> MethodDescriptor | None:
    """The RPC itself if it streams, or its streaming twin if it has one."""
    rule = stream_rule(rpc)
    if rule is None:
        return rpc if rpc.server_streaming else None
    return rpc.containing_service.methods_by_name[rule.rpc]


def _flag(rpc: MethodDescriptor) -> str:
    """The member that asks for the streaming twin; empty if there is none."""
    rule = stream_rule(rpc)
    return rules.json_name(rpc.input_type.fields_by_name[rule.flag]) if rule else ""


def _example(examples: list[Any]) -> dict[str, Any]:
    return {"example": examples[0]} if examples else {}


def _words(name: str) -> str:
    """`CreateChatCompletion` as `Create chat completion`."""
    first, *rest = _WORD.findall(name)
    return " ".join([first, *(word if word.isupper() else word.lower() for word in rest)])
