"""Builds HTTP routes from google.api.http annotations."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, unquote

import orjson
from google.api import annotations_pb2, http_pb2
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor, ServiceDescriptor

from rapport.gateway.errors import bad_request, method_not_allowed, not_found
from rapport.gateway.transcoding.codec import rules
from rapport.gateway.transcoding.methods import Operation, compile_operation

logger = logging.getLogger(__name__)

ANY_SEGMENT, ANY_REST = "*", "**"
_TEMPLATE_PART = re.compile(r"\{(\w+)(?:=([^{}]+))?\}|([^{}/]+)")


@dataclass(frozen=True, slots=True)
class Template:
    """A path of literals, `*` for any segment and `**` for any rest, and their variables."""

    segments: tuple[str, ...]
    variables: dict[str, slice]

    def match(self, path: list[str]) -> dict[str, str] | None:
        """The values of the variables; None if the path does not match."""
        *first, last = self.segments
        head, tail = (first, path[len(first) :]) if last == ANY_REST else (self.segments, [])
        if len(path) != len(head) + len(tail) or (last == ANY_REST and not tail):
            return None
        fits = all(want in (ANY_SEGMENT, have) for want, have in zip(head, path, strict=False))
        if not fits or not all(path):
            return None
        return {name: "/".join(path[place]) for name, place in self.variables.items()}


@dataclass(frozen=True, slots=True)
class Route:
    path: str
    """The template as the annotation has it."""
    verb: str
    template: Template
    has_body: bool
    fields: dict[str, FieldDescriptor]
    """Scalar fields of the request, by JSON name."""
    operation: Operation
    rpc: MethodDescriptor

    def arguments(self, query: bytes, variables: dict[str, str]) -> dict[str, Any]:
        """The members of the request that come from the URL; those of a body are added to them.

        Raises:
            ApiError: a parameter of one value has several, or the query is not UTF-8.
        """
        arguments: dict[str, Any] = {}
        for name, text in [] if self.has_body else _pairs(query):
            value, field = self._lift(name, text), self.fields.get(name)
            if field is not None and field.is_repeated:
                arguments.setdefault(name, []).append(value)
            elif field is not None and name in arguments:
                raise bad_request("The parameter occurs twice in the query", param=name)
            else:
                arguments[name] = value
        return arguments | {name: self._lift(name, text) for name, text in variables.items()}

    def _lift(self, name: str, text: str) -> Any:
        """The text as a JSON value of the field's type, or as it is, which the decoder refuses."""
        field = self.fields.get(name)
        if field is None or field.cpp_type in (
            FieldDescriptor.CPPTYPE_STRING,
            FieldDescriptor.CPPTYPE_ENUM,
        ):
            return text
        try:
            value = orjson.loads(text)
        except orjson.JSONDecodeError:
            return text
        return value if isinstance(value, (int, float)) else text


class RouteTable:
    """Finds the route for a request."""

    def __init__(self, routes: list[Route]) -> None:
        self.routes = routes
        # Literals before wildcards: in /models/default, "default" is no model's name.
        self._routes = sorted(routes, key=lambda route: _rank(route.template))

    def __len__(self) -> int:
        return len(self._routes)

    def find(self, verb: str, raw_path: str) -> tuple[Route, dict[str, str]]:
        """The route and the values of its variables.

        Raises:
            ApiError: 404 for an unknown path, 405 for a known path with another method.
        """
        path = [_decoded(segment) for segment in raw_path.removeprefix("/").split("/")]
        allowed = []
        for route in self._routes:
            variables = route.template.match(path)
            if variables is not None and _serves(route, verb):
                return route, variables
            if variables is not None:
                allowed.append(route.verb)
        raise method_not_allowed(sorted({*allowed})) if allowed else not_found(raw_path)


def build_routes(services: list[ServiceDescriptor], *, ignore_unknown: bool) -> RouteTable:
    """The routes of all annotated RPCs; one that cannot be served is logged and left out."""
    routes: dict[tuple[str, tuple[str, ...]], Route] = {}
    for rpc in (rpc for service in services for rpc in service.methods):
        try:
            for route in _routes(rpc, ignore_unknown=ignore_unknown):
                key = (route.verb, route.template.segments)
                if routes.setdefault(key, route) is not route:
                    raise rules.UnsupportedError(f"{route.verb} /{'/'.join(key[1])} is taken")  # noqa: TRY301
        except rules.UnsupportedError as error:
            logger.error("%s is not served: %s", rpc.full_name, error)  # noqa: TRY400
    return RouteTable(list(routes.values()))


def parse_template(text: str) -> Template:
    """Parses a path such as `/v1/{name=models/*}`.

    Raises:
        UnsupportedError: the path has a form that is not served, such as `{name}:verb`.
    """
    segments: list[str] = []
    variables: dict[str, slice] = {}
    position = 0
    while position < len(text):
        part = _TEMPLATE_PART.match(text, position + 1)
        if text[position] != "/" or part is None:
            raise rules.UnsupportedError(f"the path {text} is not supported")
        name, inner, literal = part.groups()
        added = [literal] if literal else (inner or ANY_SEGMENT).split("/")
        if name:
            end = None if added[-1] == ANY_REST else len(segments) + len(added)
            variables[name] = slice(len(segments), end)
        segments += added
        position = part.end()
    if not segments or ANY_REST in segments[:-1]:
        raise rules.UnsupportedError(f"the path {text} is not supported")
    return Template(tuple(segments), variables)


def _routes(rpc: MethodDescriptor, *, ignore_unknown: bool) -> Iterator[Route]:
    rule = rpc.GetOptions().Extensions[annotations_pb2.http]
    if not rule.WhichOneof("pattern"):
        return
    operation = compile_operation(rpc, ignore_unknown=ignore_unknown)
    for binding in (rule, *rule.additional_bindings):
        yield _route(rpc, binding, operation)


def _route(rpc: MethodDescriptor, rule: http_pb2.HttpRule, operation: Operation) -> Route:
    pattern = rule.WhichOneof("pattern")
    if rule.body not in ("", "*") or rule.response_body:
        raise rules.UnsupportedError('only body "*" or none is supported, and no response_body')
    if pattern is None or pattern == "custom":
        raise rules.UnsupportedError("the HTTP method is not supported")
    path = getattr(rule, pattern)
    template = parse_template(path)
    names = {field.name: rules.json_name(field) for field in _scalars(rpc)}
    if not names.keys() >= template.variables.keys():
        raise rules.UnsupportedError(f"{path} names no scalar field")
    variables = {names[name]: place for name, place in template.variables.items()}
    fields = {names[field.name]: field for field in _scalars(rpc)}
    named = Template(template.segments, variables)
    return Route(path, pattern.upper(), named, rule.body == "*", fields, operation, rpc)


def _scalars(rpc: MethodDescriptor) -> list[FieldDescriptor]:
    return [field for field in rpc.input_type.fields if field.message_type is None]


def _rank(template: Template) -> tuple[int, ...]:
    return tuple({ANY_SEGMENT: 1, ANY_REST: 2}.get(segment, 0) for segment in template.segments)


def _serves(route: Route, verb: str) -> bool:
    # HEAD is GET without a body. For a stream it would never end.
    if verb == "HEAD" and not route.operation.method.streams:
        return route.verb == "GET"
    return route.verb == verb


def _pairs(query: bytes) -> list[tuple[str, str]]:
    try:
        text = query.decode("ascii")
        return parse_qsl(text, keep_blank_values=True, errors="strict")
    except ValueError as error:
        raise bad_request("The query is not UTF-8") from error


def _decoded(segment: str) -> str:
    try:
        return unquote(segment, errors="strict")
    except UnicodeDecodeError as error:
        raise bad_request("The path is not UTF-8") from error
