"""The OpenAPI 3.1 description of the routes, from the descriptors and options they come from."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from google.protobuf.descriptor import Descriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet

from rapport.gateway.dialects.dialect import Dialect
from rapport.gateway.openapi.comments import Comments
from rapport.gateway.openapi.error_responses import HEADERS, ErrorResponses
from rapport.gateway.openapi.names import Names
from rapport.gateway.openapi.operations import PARAMETERS, Operations, streamed
from rapport.gateway.openapi.schemas import Schemas
from rapport.gateway.transcoding.routes import Route

_VERSION = re.compile(r"\.?(v\d\w*)$")


def describe(
    routes: list[Route],
    files: FileDescriptorSet,
    dialect: Dialect,
    *,
    closed: bool,
    key_needed: bool,
) -> dict[str, Any]:
    """The document.

    `closed`: unknown members of requests are refused. `key_needed`: no call without API key.
    """
    comments = Comments(files)
    names = Names([route.rpc.input_type for route in routes], _outputs(routes))
    read = Schemas(names, comments, read=True, closed=closed)
    written = Schemas(names, comments, read=False, closed=False)
    errors = ErrorResponses(dialect)
    paths = Operations(read, written, comments, errors, dialect.stream_text).of(routes)
    return {
        "openapi": "3.1.0",
        "info": _info(routes),
        "servers": [{"url": "/"}],
        "security": [{"bearer": []}] if key_needed else [{"bearer": []}, {}],
        "tags": _tags(routes, comments),
        "paths": paths,
        "components": {
            "schemas": {**read.components, **written.components, "Error": dialect.error_schema},
            "responses": errors.responses(),
            "headers": HEADERS,
            "parameters": PARAMETERS,
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
    }


def _outputs(routes: list[Route]) -> Iterator[Descriptor]:
    for route in routes:
        yield route.rpc.output_type
        stream = streamed(route.rpc)
        if stream is not None:
            yield stream.output_type


def _info(routes: list[Route]) -> dict[str, str]:
    package = routes[0].rpc.containing_service.file.package if routes else ""
    version = _VERSION.search(package)
    name = _VERSION.sub("", package).rpartition(".")[2].capitalize()
    return {"title": name or "API", "version": version[1] if version else "0"}


def _tags(routes: list[Route], comments: Comments) -> list[dict[str, str]]:
    services = {route.rpc.containing_service.name: route.rpc.containing_service for route in routes}
    texts = {name: comments.of(service) for name, service in services.items()}
    return [
        {"name": name, **({"description": text} if text else {})} for name, text in texts.items()
    ]
