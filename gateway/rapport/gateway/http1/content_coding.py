"""Content codings of requests: bodies that come compressed."""

from __future__ import annotations

import zlib
from http import HTTPStatus

from rapport.gateway.errors import ApiError, bad_request

# The window that zlib expects for each coding (RFC 9110, 8.4.1). 47 takes both of its headers.
_WINDOWS = {"gzip": 31, "x-gzip": 31, "deflate": 47}
ACCEPTED = "gzip, deflate"
# A body may consist of members that were compressed apart. Each takes some microseconds; programs
# that compress in parallel make one of 64 KiB or more.
MAX_MEMBERS = 1000
# What is decompressed at once. The bytes behind a member are copied.
CHUNK_BYTES = 16 << 10


def coding_of(header: str) -> str | None:
    """The coding that a Content-Encoding header names; None if the body is as it is.

    Raises:
        ApiError: there is no such coding here, or there are several.
    """
    coding = header.strip().lower()
    if coding in ("", "identity"):
        return None
    if coding not in _WINDOWS:
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
    decoder = zlib.decompressobj(_WINDOWS[coding])
    end = 0
    while not decoder.eof:
        chunk = data[end : end + CHUNK_BYTES]
        if not chunk:
            raise bad_request(f"The body is not valid {coding}, or not to its end")
        end += len(chunk)
        try:
            whole += decoder.decompress(chunk, limit + 1 - len(whole))
        except zlib.error as error:
            raise bad_request(f"The body is not valid {coding}") from error
        if len(whole) > limit:
            raise too_large(limit)
    return data[end - len(decoder.unused_data) :]


def too_large(limit: int) -> ApiError:
    text = f"The body is larger than {limit} bytes"
    return bad_request(text, status=HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
