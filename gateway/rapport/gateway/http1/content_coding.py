"""Content codings of requests: bodies that come compressed."""

from __future__ import annotations

import zlib
from http import HTTPStatus

from rapport.gateway.errors import ApiError, bad_request

# The window that zlib expects for each coding (RFC 9110, 8.4.1). 47 takes both of its headers.
_WINDOWS = {"gzip": 31, "x-gzip": 31, "deflate": 47}
ACCEPTED = "gzip, deflate"


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
    decoder = zlib.decompressobj(_WINDOWS[coding])
    try:
        whole = decoder.decompress(body, limit + 1)
    except zlib.error as error:
        raise bad_request(f"The body is not valid {coding}") from error
    if len(whole) > limit:
        raise too_large(limit)
    if not decoder.eof or decoder.unused_data:
        raise bad_request(f"The body is not valid {coding}, or not to its end")
    return whole


def too_large(limit: int) -> ApiError:
    text = f"The body is larger than {limit} bytes"
    return bad_request(text, status=HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
