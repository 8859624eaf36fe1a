"""Routes: from annotations to RPCs, over real sockets."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from rapport.gateway.errors import ApiError
from rapport.gateway.transcoding.codec.rules import UnsupportedError
from rapport.gateway.transcoding.routes import RouteTable, build_routes, parse_template
from tests.gateway.library import SERVICE, pool


@pytest.fixture
def table() -> RouteTable:
    return build_routes([pool().FindServiceByName(SERVICE)], ignore_unknown=False)


def shown(fields: dict[str, Any]) -> dict[str, Any]:
    return {"number": 0, "title": "", "shelf": "", "years": [], **fields}


async def test_path_variables_and_query(client: httpx.AsyncClient) -> None:
    """A GET's path variables and query parameters fill the request's fields by type."""
    reply = await client.get(
        "/v1/shelves/a%2Fb%20%C3%A9/books/one/two%2Fthree",
        params={"lent": "true", "rating": "4", "genre": "novel", "years": [1999, 2001]},
    )
    assert reply.json() == shown(
        {
            "title": "one/two/three",
            "shelf": "a/b é",
            "lent": True,
            "rating": 4.0,
            "genre": "novel",
            "years": [1999, 2001],
        }
    )


async def test_sub_template_and_typed_variable(client: httpx.AsyncClient) -> None:
    """A variable may span literals, and may be a number."""
    reply = await client.get("/v1/shelves/x/best")
    assert reply.json() == shown({"title": "shelves/x/best"})
    reply = await client.get("/v1/books/7")
    assert reply.json() == shown({"number": 7})


async def test_literal_goes_before_wildcard(client: httpx.AsyncClient) -> None:
    """A literal path wins over a template that matches as well."""
    assert (await client.get("/v1/books/default")).json() == shown({"title": "default"})


async def test_path_variable_beside_a_body(client: httpx.AsyncClient) -> None:
    """A path variable fills its field beside what the body gives."""
    reply = await client.put("/v1/books/7", json={"title": "t"})
    assert reply.json() == shown({"number": 7, "title": "t"})


async def test_other_methods(client: httpx.AsyncClient) -> None:
    """DELETE is served, an Empty answer is an empty object, HEAD is a GET without a body."""
    assert (await client.delete("/v1/books/7")).json() == {}
    reply = await client.head("/v1/books/7")
    assert (reply.status_code, reply.content) == (200, b"")


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        ("?number=x", "Input should be a valid integer, field: 'number'"),
        ("?lent=1", "Input should be a valid boolean, field: 'lent'"),
        ("?rating=null", "Input should be a valid number, field: 'rating'"),
        ("?genre=crime", "Input should be 'novel' or 'GENRE_POETRY', field: 'genre'"),
        ("?inner=x", "Input should be a valid dictionary, field: 'inner'"),
        ("?other=x", "Extra inputs are not permitted, field: 'other', value: 'x'"),
        ("?shelf=%ff", "The query is not UTF-8"),
    ],
)
async def test_bad_query(client: httpx.AsyncClient, query: str, problem: str) -> None:
    """A query that does not fit the request is a 400 that says why."""
    reply = await client.get(f"/v1/shelves/a/books/b{query}")
    assert (reply.status_code, reply.json()["error"]["message"]) == (400, problem)


async def test_parameter_twice(client: httpx.AsyncClient) -> None:
    """A parameter of one value is not given twice; of a list each value counts."""
    reply = await client.get("/v1/shelves/a/books/b?lent=true&lent=true")
    error = reply.json()["error"]
    assert (reply.status_code, error["param"]) == (400, "lent")
    assert error["message"] == "The parameter occurs twice in the query"
    reply = await client.get("/v1/shelves/a/books/b?years=1&years=2")
    assert reply.json()["years"] == [1, 2]


@pytest.mark.parametrize(
    "path", ["/v1", "/v1/books", "/v1/books/", "/v1/books/1/", "//v1/books/1", "/V1/books/1"]
)
async def test_unknown_path(client: httpx.AsyncClient, path: str) -> None:
    """Unknown paths are 404, those with a trailing or a doubled slash among them."""
    reply = await client.get(path)
    assert reply.status_code == 404
    error = reply.json()["error"]
    assert (error["type"], error["code"], error["object"]) == ("error", "NOT_FOUND", "error")


async def test_wrong_method(client: httpx.AsyncClient) -> None:
    """A known path with another method is 405 and says which are allowed."""
    reply = await client.post("/v1/books/7", json={})
    assert (reply.status_code, reply.headers["allow"]) == (405, "DELETE, GET, HEAD, PUT")
    reply = await client.head("/v1/watch")
    assert (reply.status_code, reply.headers["allow"]) == (405, "GET, HEAD")


async def test_path_must_be_utf8(client: httpx.AsyncClient) -> None:
    """A path that is no UTF-8 is a 400."""
    assert (await client.get("/v1/books/%ff")).status_code == 400


@pytest.mark.parametrize("path", ["free", "nested", "body", "x:verb", "twinless", "talk"])
def test_unservable_rpcs_are_left_out(table: RouteTable, path: str) -> None:
    """An RPC that has no REST form is left out and the others are served."""
    for verb in ("GET", "POST"):
        with pytest.raises(ApiError) as caught:
            table.find(verb, f"/v1/unserved/{path}")
        assert caught.value.status == 404


def test_reasons_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    """The log says of each RPC that is left out why it is."""
    build_routes([pool().FindServiceByName(SERVICE)], ignore_unknown=False)
    reasons = "\n".join(record.getMessage() for record in caplog.records)
    for expected in (
        "Nested is not served: toy.v1.FreeForm.free: google.protobuf.Struct is not supported",
        'BodyField is not served: only body "*" or none',
        "Verb is not served: the path /v1/unserved/{title}:verb is not supported",
        "Twinless is not served: Tell is not its streaming twin",
        "Talk is not served: client streaming",
        "Taken is not served: GET /v1/watch is taken",
    ):
        assert expected in reasons


@pytest.mark.parametrize("text", ["", "/", "v1", "/v1/", "/{a=**}/b", "/**/b", "/{a", "/{a}b"])
def test_bad_templates(text: str) -> None:
    """A template that cannot be matched is refused when it is learned."""
    with pytest.raises(UnsupportedError):
        parse_template(text)


@pytest.mark.parametrize(
    ("template", "path", "expected"),
    [
        ("/a/*", "a/b", {}),
        ("/a/*", "a/b/c", None),
        ("/a/**", "a/b/c", {}),
        ("/a/**", "a", None),
        ("/{x}/{y=b/**}", "a/b/c/d", {"x": "a", "y": "b/c/d"}),
        ("/{x}/{y=b/**}", "a/c/c/d", None),
    ],
)
def test_match(template: str, path: str, expected: dict[str, str] | None) -> None:
    """`*` is one segment, `**` all that follow, at least one."""
    assert parse_template(template).match(path.split("/")) == expected
