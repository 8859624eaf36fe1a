"""Bodies that come compressed."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib
from importlib import import_module

import httpx
import pytest

from rapport.gateway.errors import ApiError
from rapport.gateway.http1.content_coding import (
    ACCEPTED,
    MAX_MEMBERS,
    ZSTD_MODULE,
    coding_of,
    decompressed,
)
from tests.gateway.conftest import Serve

BODY = b'{"a_string": "x"}'
# Without the time, which would differ from run to run.
GZIPPED = gzip.compress(BODY, mtime=0)
zstd = import_module(ZSTD_MODULE)
ZSTD = zstd.compress(BODY)
# A window that would take 128 MiB.
WIDE = zstd.ZstdCompressor(options={zstd.CompressionParameter.window_log: 27})
LIMIT = 1 << 20


@pytest.mark.parametrize(
    ("header", "coding"),
    [
        ("", None),
        ("identity", None),
        (" GZIP ", "gzip"),
        ("x-gzip", "x-gzip"),
        ("deflate",) * 2,
        ("zstd",) * 2,
    ],
)
def test_codings(header: str, coding: str | None) -> None:
    """A coding is named in any case; no coding is none."""
    assert coding_of(header) == coding


@pytest.mark.parametrize("header", ["br", "gzip, gzip", "zstd, gzip", "identity, gzip"])
def test_unknown_codings(header: str) -> None:
    """Another coding, or several, is a 415 that says which there are."""
    with pytest.raises(ApiError) as raised:
        coding_of(header)
    assert raised.value.status == 415
    assert raised.value.headers["accept-encoding"] == ACCEPTED


@pytest.mark.parametrize(
    ("coding", "data"),
    [
        ("gzip", GZIPPED),
        ("x-gzip", GZIPPED),
        ("deflate", zlib.compress(BODY)),
        ("zstd", ZSTD),
        ("zstd", zstd.compress(BODY[:5]) + zstd.compress(BODY[5:])),
        # As programs make it that compress in parallel, or append to a file.
        ("gzip", gzip.compress(BODY[:5], mtime=0) + gzip.compress(BODY[5:], mtime=0)),
    ],
)
def test_decompressed(coding: str, data: bytes) -> None:
    """A body is what it was before."""
    assert decompressed(data, coding, LIMIT) == BODY
    assert decompressed(data, coding, len(BODY)) == BODY


@pytest.mark.parametrize(
    ("coding", "data"),
    [
        ("gzip", BODY),
        ("deflate", BODY),
        ("zstd", BODY),
        ("zstd", ZSTD[:-1]),
        ("zstd", ZSTD + b"x"),
        ("zstd", b""),
        ("zstd", WIDE.compress(BODY) + WIDE.flush()),
        ("gzip", GZIPPED[:-1]),
        ("gzip", GZIPPED + b"x"),
        ("gzip", GZIPPED * 2 + b"x"),
        ("gzip", b""),
        ("gzip", GZIPPED[:-5] + b"?" + GZIPPED[-4:]),
    ],
)
def test_not_of_the_coding(coding: str, data: bytes) -> None:
    """What is no such data, is cut off or damaged is a 400."""
    with pytest.raises(ApiError, match=f"The body is not valid {coding}") as raised:
        decompressed(data, coding, LIMIT)
    assert raised.value.status == 400


def test_members_are_bounded() -> None:
    """A body of very many members, which would take seconds, is a 400."""
    empty = gzip.compress(b"", mtime=0)
    assert decompressed(empty * (MAX_MEMBERS - 1) + GZIPPED, "gzip", LIMIT) == BODY
    with pytest.raises(ApiError, match="more than 1000 members of gzip"):
        decompressed(empty * MAX_MEMBERS + GZIPPED, "gzip", LIMIT)


@pytest.mark.parametrize(
    ("coding", "bomb"),
    [
        ("gzip", gzip.compress(bytes(64 * LIMIT), mtime=0)),
        ("gzip", gzip.compress(bytes(LIMIT), mtime=0) * 64),
        ("zstd", zstd.compress(bytes(64 * LIMIT))),
        ("zstd", zstd.compress(bytes(LIMIT)) * 64),
    ],
    ids=["gzip", "members", "zstd", "frames"],
)
def test_bomb(coding: str, bomb: bytes) -> None:
    """What would be too large is a 413, before it takes much more memory than the limit."""
    tracemalloc.start()
    try:
        with pytest.raises(ApiError, match=f"The body is larger than {LIMIT} bytes") as raised:
            decompressed(bomb, coding, LIMIT)
        assert raised.value.status == 413
        assert tracemalloc.get_traced_memory()[1] < 8 * LIMIT
    finally:
        tracemalloc.stop()


async def test_over_http(serve: Serve) -> None:
    """The limit of bodies is that of the decompressed ones; other charsets are refused."""
    json = {"content-type": "application/json"}

    async def post(body: bytes, **headers: str) -> httpx.Response:
        return await client.post("/v1/echo", content=body, headers=json | headers)

    async with serve(max_body_bytes=1000, max_body_bytes_total=2000) as client:
        coding = {"content-encoding": "gzip"}
        whole = await post(gzip.compress(BODY), **coding)
        assert (whole.status_code, whole.json()["a_string"]) == (200, "x")
        assert (await post(gzip.compress(BODY + b" " * 1000), **coding)).status_code == 413
        lines = [*json.items(), ("content-encoding", "gzip"), ("content-encoding", "identity")]
        twice = await client.post("/v1/echo", content=gzip.compress(BODY), headers=lines)
        assert twice.status_code == 415
        for first, last in (("text/plain", "application/json"), ("application/json", "text/plain")):
            kinds = [("content-type", first), ("content-type", last)]
            both = await client.post("/v1/echo", content=BODY, headers=kinds)
            assert both.status_code == 415
        refused = await post(BODY, **{"content-encoding": "br"})
        assert refused.status_code == 415
        assert refused.headers["accept-encoding"] == ACCEPTED
        for charset, status in (("utf-8", 200), ('"UTF-8"', 200), ("utf-16", 415), ("latin1", 415)):
            kind = {"content-type": f"application/json; charset={charset}"}
            assert (await post(BODY, **kind)).status_code == status
