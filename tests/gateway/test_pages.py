"""The gateway's own pages: the description, and the reference that is made from it."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
import pytest

from rapport.gateway.openapi.comments import Comments
from rapport.gateway.pages import ASSETS, HOME, PATHS, SCRIPTS
from rapport.gateway.upstream.reflection import reflect
from tests.gateway.conftest import Serve, gateway, until_learned
from tests.gateway.library import Library, descriptor_set, rpc, serving
from tests.gateway.upstream.test_reflection import Reflection, reflecting
from tests.gateway.upstream.test_upstream import free_port, moved, until


async def test_description(client: httpx.AsyncClient) -> None:
    """The description is JSON, and not to be kept without asking again."""
    reply = await client.get("/openapi.json")
    assert reply.json()["openapi"] == "3.1.0"
    assert reply.headers["content-type"] == "application/json"
    assert reply.headers["cache-control"] == "no-cache"
    assert (await client.get("/openapi.json")).content == reply.content


async def test_description_of_a_changed_service(library: Library) -> None:
    """A service that comes back with other routes is described by those."""
    port = free_port()
    changed = moved(b"/v1/books/default", b"/v1/books/classic")
    async with gateway(f"127.0.0.1:{port}") as client:
        assert (await client.get("/openapi.json")).status_code == 503
        async with serving(library, port):
            await until_learned(client)
            assert "/v1/books/default" in (await client.get("/openapi.json")).json()["paths"]
        async with serving(library, port, descriptors=changed):
            await until(client, "/v1/books/classic", 200)
            assert "/v1/books/classic" in (await client.get("/openapi.json")).json()["paths"]


async def test_comments_by_reflection() -> None:
    """A server whose reflection keeps the comments is described with them."""
    async with reflecting(Reflection()) as channel:
        _, files = await reflect(channel)
    assert Comments(files).of(rpc("Tell")) == "Tells it, `count` times."


async def test_comments_from_a_descriptor_set(serve: Serve, tmp_path: Path) -> None:
    """A descriptor set with source info is described with its comments; keys as they are set."""
    path = tmp_path / "toy.binpb"
    path.write_bytes(descriptor_set())
    async with serve(descriptor_set=path, api_keys="k", unknown_fields="ignore") as client:
        described = (await client.get("/openapi.json")).json()
    assert described["paths"]["/v1/tell"]["post"]["description"] == "Tells it, `count` times."
    assert described["security"] == [{"bearer": []}]
    assert "additionalProperties" not in described["components"]["schemas"]["Left"]


@pytest.mark.parametrize("path", ASSETS)
async def test_assets(client: httpx.AsyncClient, path: str) -> None:
    """The page and its parts come from here, with headers that let in nothing from elsewhere."""
    reply = await client.get(path)
    assert reply.status_code == 200
    assert reply.headers["content-type"].startswith(("text/", "image/svg+xml"))
    assert reply.headers["content-security-policy"].startswith("default-src 'self';")
    assert reply.headers["x-content-type-options"] == "nosniff"
    elsewhere = re.findall(r"https?://[^\s\"']+", reply.text)
    assert elsewhere in ([], ["http://www.w3.org/2000/svg"])


async def test_page_refers_to_assets(client: httpx.AsyncClient) -> None:
    """What the page and its scripts load is there."""
    page = (await client.get("/docs")).text
    assert {f"/{path}" for path in re.findall(r'(?:href|src)="([^"]+)"', page)} <= {*PATHS}
    for script in SCRIPTS:
        text = (await client.get(f"/docs/{script}")).text
        assert {*re.findall(r'from "./([^"]+)"', text)} <= {*SCRIPTS}


@pytest.mark.parametrize("path", PATHS)
async def test_methods(client: httpx.AsyncClient, path: str) -> None:
    """The pages are to be read: GET and HEAD are allowed."""
    head = await client.head(path)
    assert (head.status_code, head.content) == (307 if path == HOME else 200, b"")
    reply = await client.post(path)
    assert (reply.status_code, reply.headers["allow"]) == (405, "GET, HEAD")


async def test_home(client: httpx.AsyncClient) -> None:
    """Who opens the server in a browser comes to the reference."""
    reply = await client.get("/")
    assert (reply.status_code, reply.headers["location"]) == (307, "/docs")
