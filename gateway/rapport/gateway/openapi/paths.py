"""Routes as OpenAPI has them: paths with parameters."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from google.protobuf.descriptor import FieldDescriptor

from rapport.gateway.openapi.scalars import Schema
from rapport.gateway.openapi.schemas import Schemas
from rapport.gateway.transcoding.routes import ANY_REST, ANY_SEGMENT, Route

Parameter = dict[str, Any]
WILD = (ANY_SEGMENT, ANY_REST)


def path_and_parameters(route: Route, schemas: Schemas) -> tuple[str, list[Parameter]]:
    """The path, and what its parts in braces are."""
    parts, parameters = [], []
    for segment, name, field in _segments(route):
        parts.append(f"{{{name}}}" if name else segment)
        if name:
            parameters.append(_path_parameter(name, segment, field, schemas))
    return "/" + "/".join(parts), parameters


def query_parameters(route: Route, schemas: Schemas) -> list[Parameter]:
    """The fields that a request without a body has in its query."""
    fields = {} if route.has_body else route.fields
    return [
        _parameter(name, "query", schemas.described(field, schemas.value(field)))
        for name, field in fields.items()
        if name not in route.template.variables
    ]


def _segments(route: Route) -> Iterator[tuple[str, str, FieldDescriptor | None]]:
    """Segments with the name of their parameter, and its field if it is all of the value."""
    named: dict[int, tuple[str, FieldDescriptor | None]] = {}
    segments = route.template.segments
    for variable, place in route.template.variables.items():
        span = range(len(segments))[place]
        wild = [index for index in span if segments[index] in WILD]
        for number, index in enumerate(wild, 1):
            name = variable if len(wild) == 1 else f"{variable}_{number}"
            named[index] = (name, route.fields[variable] if len(span) == 1 else None)
    for position, segment in enumerate(segments):
        anonymous = f"part_{position + 1}" if segment in WILD else ""
        yield segment, *named.get(position, (anonymous, None))


def _path_parameter(
    name: str, segment: str, field: FieldDescriptor | None, schemas: Schemas
) -> Parameter:
    schema: Schema = {"type": "string"}
    if field is not None:
        schema = schemas.described(field, schemas.value(field))
    if schema.get("type") == "string":
        schema["minLength"] = 1
    if segment == ANY_REST:
        note = "It may have slashes."
        schema["description"] = f"{schema.get('description', '')} {note}".strip()
    return {**_parameter(name, "path", schema), "required": True}


def _parameter(name: str, place: str, schema: dict[str, Any]) -> Parameter:
    text = schema.pop("description", "")
    deprecated = {"deprecated": True} if schema.pop("deprecated", False) else {}
    description = {"description": text} if text else {}
    return {"name": name, "in": place, **description, "schema": schema, **deprecated}
