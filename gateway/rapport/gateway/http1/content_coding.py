"""Content codings of requests: bodies that come compressed."""

from __future__ import annotations

import sys
import zlib
from functools import cache
from http import HTTPStatus
from importlib import import_module
from typing import Any, Protocol

from rapport.gateway.errors import ApiError, bad_request

# The window that zlib expects for each coding (RFC 9110, 8.4.1). 47 takes both of its headers.
_WINDOWS = {"gzip": 31, "x-gzip": 31, "deflate": 47}
ZSTD = "zstd"
ZSTD_MODULE = "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd"
# 8 MiB, as RFC 9659 has it for content codings.
_ZSTD_WINDOW_LOG = 23
ACCEPTED = "gzip, deflate, zstd"
# A body may consist of members that were compressed apart. Each takes some microseconds; programs
# that compress in parallel make one of 64 KiB or more.
MAX_MEMBERS = 1000
# What is decompressed at once. The bytes behind a member are copied.
CHUNK_BYTES = 16 << 10


class _Decoder(Protocol):
    """What zlib and zstd have in common."""

    @property
    def eof(self) -> bool:
        """Whether the member has come to its end."""

    @property
    def unused_data(self) -> bytes:
        """What was given and stands behind it."""

    def decompress(self, data: memoryview, max_length: int, /) -> bytes:
        """The next bytes, `max_length` at most."""


def coding_of(header: str) -> str | None:
    """The coding that a Content-Encoding header names; None if the body is as it is.

    Raises:
        ApiError: there is no such coding here, or there are several.
    """
    coding = header.strip().lower()
    if coding in ("", "identity"):
        return None
    if coding not in (*_WINDOWS, ZSTD):
        text = f"The Content-Encoding should be one of {ACCEPTED}"
        error = bad_request(text, status=HTTPStatus.UNSUPPORTED_MEDIA_TYPE)
        error.headers["accept-encoding"] = ACCEPTED
        raise error
    return coding


def decompressed(body: bytes, coding: str, limit: int) -> bytes:
    """A body as it was before it was compressed. No more than the limit is ever held.

    Raises:
        ApiError: it is not of the coding, or it is larger than `limit` bytes.
    """
    whole = bytearray()
    rest = memoryview(body)
    for _ in range(MAX_MEMBERS):
        rest = _decompress_member(rest, coding, whole, limit)
        if not rest:
            return bytes(whole)
    raise bad_request(f"The body has more than {MAX_MEMBERS} members of {coding}")


def _decompress_member(data: memoryview, coding: str, whole: bytearray, limit: int) -> memoryview:
    """Adds the member that `data` begins with to `whole`. Returns what follows it."""
    decoder = _decoder(coding)
    end = 0
    while not decoder.eof:
        chunk = data[end : end + CHUNK_BYTES]
        if not chunk:
            raise bad_request(f"The body is not valid {coding}, or not to its end")
        end += len(chunk)
        try:
            whole += decoder.decompress(chunk, limit + 1 - len(whole))
        except _error(coding) as error:
            raise bad_request(f"The body is not valid {coding}") from error
        if len(whole) > limit:
            raise too_large(limit)
    return data[end - len(decoder.unused_data) :]


def _decoder(coding: str) -> _Decoder:
    if coding != ZSTD:
        return zlib.decompressobj(_WINDOWS[coding])
    limit = {_zstd().DecompressionParameter.window_log_max: _ZSTD_WINDOW_LOG}
    decoder: _Decoder = _zstd().ZstdDecompressor(options=limit)
    return decoder


def _error(coding: str) -> type[Exception]:
    """What the decoder raises for data that is not of the coding."""
    error: type[Exception] = zlib.error if coding != ZSTD else _zstd().ZstdError
    return error


@cache
def _zstd() -> Any:
    """The library, which is loaded for the first body that needs it: it takes more than a MiB."""
    return import_module(ZSTD_MODULE)


def too_large(limit: int) -> ApiError:
    text = f"The body is larger than {limit} bytes"
    return bad_request(text, status=HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
