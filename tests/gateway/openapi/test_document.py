"""The description as a whole: valid, complete, and of the routes that there are."""

from __future__ import annotations

from typing import Any

import jsonschema_rs
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from openapi_spec_validator import OpenAPIV31SpecValidator

from rapport.gateway.dialects.fireworks import FIREWORKS
from rapport.gateway.openapi.document import describe
from rapport.gateway.transcoding.routes import build_routes
from rapport.v1 import chat_pb2, model_pb2
from tests.gateway.library import SERVICE, descriptor_set, pool

RAPPORT = [
    chat_pb2.DESCRIPTOR.services_by_name["ChatService"],
    model_pb2.DESCRIPTOR.services_by_name["ModelService"],
]


def document(services: list[Any], *, closed: bool = True, key_needed: bool = False) -> Any:
    files = FileDescriptorSet.FromString(descriptor_set())
    routes = build_routes(services, ignore_unknown=not closed).routes
    return describe(routes, files, FIREWORKS, closed=closed, key_needed=key_needed)


@pytest.fixture(scope="module")
def toy() -> Any:
    return document([pool().FindServiceByName(SERVICE)])


@pytest.fixture(scope="module")
def rapport() -> Any:
    return document(RAPPORT)


def test_valid(toy: Any, rapport: Any) -> None:
    """The descriptions of both services are OpenAPI 3.1."""
    for described in (toy, rapport, document([])):
        OpenAPIV31SpecValidator(described).validate()
    assert rapport["info"] == {"title": "Rapport", "version": "v1"}


def test_paths(toy: Any) -> None:
    """Paths have their variables in braces, and RPCs without a route have none."""
    assert {path: [*item] for path, item in toy["paths"].items()} == {
        "/v1/shelves/{shelf}/books/{title}": ["get"],
        "/v1/shelves/{title}/best": ["get"],
        "/v1/books/{number}": ["get", "delete", "put"],
        "/v1/books/default": ["get"],
        "/v1/echo": ["post"],
        "/v1/tell": ["post"],
        "/v1/watch": ["get"],
    }


def test_parameters(toy: Any) -> None:
    """A request without a body has its fields in the path and the query."""
    get = toy["paths"]["/v1/shelves/{shelf}/books/{title}"]["get"]
    found = {one["name"]: one for one in get["parameters"] if "name" in one}
    assert [name for name, one in found.items() if one["in"] == "path"] == ["shelf", "title"]
    assert [*found][2:] == ["number", "lent", "rating", "genre", "years"]
    assert found["title"]["description"] == "It may have slashes."
    assert found["years"]["schema"]["type"] == "array"
    put = toy["paths"]["/v1/books/{number}"]["put"]
    body = put["requestBody"]["content"]["application/json"]["schema"]
    assert "number" not in body["properties"]
    assert found["shelf"]["schema"] == {"type": "string", "minLength": 1}


def test_operations_have_names_of_their_own(rapport: Any) -> None:
    """An RPC at several paths is several operations, told apart by number."""
    ids = [one["operationId"] for item in rapport["paths"].values() for one in item.values()]
    assert ids[:2] == ["CreateChatCompletion", "CreateChatCompletion_2"]
    assert len(ids) == len({*ids})


def test_streaming_twin(toy: Any, rapport: Any) -> None:
    """A method with a twin answers in two forms, a stream in one, and the text says how to ask."""
    for described, path, verb, kinds in (
        (rapport, "/v1/chat/completions", "post", ["application/json", "text/event-stream"]),
        (toy, "/v1/watch", "get", ["text/event-stream"]),
        (toy, "/v1/echo", "post", ["application/json"]),
    ):
        assert [*described["paths"][path][verb]["responses"]["200"]["content"]] == kinds
    chat = rapport["paths"]["/v1/chat/completions"]["post"]
    assert "With `stream: true` it is a stream" in chat["responses"]["200"]["description"]
    assert chat["x-stream-flag"] == "stream"
    chunk = chat["responses"]["200"]["content"]["text/event-stream"]["schema"]
    assert chunk == {"$ref": "#/components/schemas/StreamChatCompletionResponse"}


def test_names_of_schemas(toy: Any, rapport: Any) -> None:
    """A message that is read and written has two schemas; enums have one."""
    assert {"ToolCall", "ToolCallInput", "ToolType", "Role"} <= rapport["components"][
        "schemas"
    ].keys()
    assert {"Everything", "EverythingInput", "Genre"} <= toy["components"]["schemas"].keys()
    assert "GenreInput" not in toy["components"]["schemas"]


def test_unused_schemas(toy: Any, rapport: Any) -> None:
    """There is no component that nothing refers to."""
    for described in (toy, rapport):
        for kind in ("schemas", "responses", "headers", "parameters"):
            for name in described["components"][kind]:
                assert f"'#/components/{kind}/{name}'" in str(described)


def test_comments_and_examples(toy: Any) -> None:
    """Comments describe, and examples fit the schemas that they are examples of."""
    tell = toy["paths"]["/v1/tell"]["post"]
    assert tell["description"] == "Tells it, `count` times."
    assert tell["responses"]["200"]["description"].endswith("\n\nTells it piece by piece.")
    shown = [tell["requestBody"], tell["responses"]["200"]]
    for media in (one["content"]["application/json"] for one in shown):
        schema = {**media["schema"], "components": toy["components"]}
        jsonschema_rs.validator_for(schema).validate(media["example"])
    schemas = toy["components"]["schemas"]
    assert schemas["Book"]["properties"]["number"]["description"] == "What it is filed under."
    assert schemas["Book"]["properties"]["lent"]["deprecated"]
    assert schemas["Genre"]["x-enum-descriptions"] == ["A long story.", ""]


def test_keys_and_unknown_members() -> None:
    """What the settings say of keys and unknown fields is in the description."""
    for closed, key_needed in ((True, False), (False, True)):
        made = document(RAPPORT, closed=closed, key_needed=key_needed)
        usage = made["components"]["schemas"]["StreamOptions"]
        assert ("additionalProperties" in usage) == closed
        assert made["security"] == ([{"bearer": []}] if key_needed else [{"bearer": []}, {}])
