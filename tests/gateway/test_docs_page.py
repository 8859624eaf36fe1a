"""The reference page in a real browser, cut off from all but the gateway."""

from __future__ import annotations

import asyncio
import html
import re
import shutil
from pathlib import Path

import httpx
import pytest

from tests.gateway.conftest import Serve, gateway
from tests.gateway.library import descriptor_set
from tests.gateway.upstream.test_upstream import free_port

CHROMIUM = shutil.which("chromium") or ""
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--enable-logging=stderr",
    "--virtual-time-budget=5000",
    "--dump-dom",
)

pytestmark = pytest.mark.skipif(not CHROMIUM, reason="chromium is not installed")


async def visit(client: httpx.AsyncClient, profile: Path) -> tuple[str, list[str]]:
    """The page's document when its script is done, and what the console says."""
    url = f"{str(client.base_url).rstrip('/')}/docs"
    browser = await asyncio.create_subprocess_exec(
        CHROMIUM,
        *FLAGS,
        f"--user-data-dir={profile}",
        url,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, log = await asyncio.wait_for(browser.communicate(), 60)
    finally:
        if browser.returncode is None:
            browser.kill()
    return out.decode(), re.findall(r"CONSOLE.*", log.decode())


def texts(page: str) -> str:
    return html.unescape(re.sub(r"<[^>]+>", "", page))


async def test_reference(serve: Serve, tmp_path: Path) -> None:
    """All operations are there, with members at all depths, errors and commands to copy."""
    descriptors = tmp_path / "toy.binpb"
    descriptors.write_bytes(descriptor_set())  # It has the comments.
    async with serve(descriptor_set=descriptors) as client:
        page, console = await visit(client, tmp_path / "profile")
        paths = (await client.get("/openapi.json")).json()["paths"]
    assert console == []
    assert 'aria-busy="false"' in page
    assert "<title>Toy API reference</title>" in page
    shown = texts(page)
    for path in paths:
        assert path in shown
    sections = re.findall(r'<section id="([^"]+)"', page)
    assert sorted(sections[1:-1]) == [
        "deletebook",
        "echo",
        "getbook",
        "getdefaultbook",
        "putbook",
        "tell",
        "watch",
    ]
    for said in (
        "Tells it, count times.",
        "novel",
        "A long story.",
        "Everything, as above.",
        "Read and dropped: dropped.",
        "string or array of strings",
        '/v1/tell \\\n  -H "Authorization: Bearer $API_KEY"',
        '"stream": true',
        "data: [DONE]",
        "invalid_request_error",
        "gRPC: RESOURCE_EXHAUSTED.",
    ):
        assert said in shown
    assert 'id="error-429"' in page
    assert 'href="#error-429"' in page


async def test_no_service(tmp_path: Path) -> None:
    """While the service is away the page says so, and that it tries again."""
    async with gateway(f"127.0.0.1:{free_port()}") as client:
        page, _ = await visit(client, tmp_path)
    assert "The service is not available yet. Trying again …" in texts(page)
