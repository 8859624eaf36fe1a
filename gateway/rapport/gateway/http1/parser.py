"""Requests out of the bytes of a connection: one at a time, and strictly.

h11 reads what other servers forgive: line feeds alone, folded headers, control characters, repeated
lengths. With each of them a proxy and this server may see different requests, so all of them are
refused here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from http import HTTPMethod, HTTPStatus

import grpc
import h11

from rapport.gateway.errors import ApiError, bad_request, closing

MAX_HEAD_BYTES = 64 << 10
# h11 takes some microseconds for each, in which all connections wait.
MAX_HEADERS = 256
# Longer lengths are beyond what 64 bits hold.
MAX_LENGTH_DIGITS = 18

_BLANK_LINE = b"\r\n\r\n"
_VERSIONS = (b"1.0", b"1.1")
_METHODS = tuple(method.encode() + b" " for method in HTTPMethod)
# Control characters, a CR or an LF that stands alone, and a line that continues the one before.
_ILLEGAL = re.compile(rb"[^\t\r\n\x20-\x7e\x80-\xff]|(?<!\r)\n|\r(?!\n)|\n[ \t]")
_LONE_LF = re.compile(rb"(?<!\r)\n")
_LENGTH = re.compile(rb"\ncontent-length:[ \t]*([^\r]*?)[ \t]*\r", re.IGNORECASE)
_TRANSFER_ENCODING = re.compile(rb"\ntransfer-encoding:[ \t]*([^\r]*?)[ \t]*\r", re.IGNORECASE)
_ORIGIN = re.compile(rb"\norigin:[ \t]*([^\r\n]*?)[ \t]*\r", re.IGNORECASE)
_TARGET = re.compile(
    rb"(?:https?://(?P<authority>[^/?#]+))?(?P<path>/[^?#]*)?(?:\?(?P<query>[^#]*))?(?:#.*)?",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Request:
    """The head of a request; the names of headers are in lower case."""

    method: str
    path: str
    """As sent, with its escapes."""
    query: bytes
    authority: str
    """Host and port that the request is for; HTTP/1.0 may have none."""
    headers: list[tuple[str, str]]
    length: int | None = None
    """Of the body, in bytes, if it was declared."""
    version: str = "1.1"


class Input:
    """What has come on a connection and belongs to no request yet."""

    def __init__(self) -> None:
        self.data = bytearray()
        self._skipped = 0
        self._searched = 0

    def take_head(self) -> bytes | None:
        """The next head, without the empty lines before it; None if it has not come whole.

        Raises ApiError if it is too large or no HTTP.
        """
        while self.data.startswith(b"\r\n"):
            del self.data[:2]
            self._skipped += 2
        self._check_method()
        begin, self._searched = max(self._searched - len(_BLANK_LINE), 0), len(self.data)
        end = self.data.find(_BLANK_LINE, begin, MAX_HEAD_BYTES)
        if end < 0:
            self._check_incomplete(begin)
            return None
        head = bytes(self.data[: end + len(_BLANK_LINE)])
        del self.data[: len(head)]
        self._skipped = self._searched = 0
        return head

    def _check_method(self) -> None:
        """Raises ApiError for what cannot become a request, such as the beginning of TLS."""
        start = bytes(self.data[: max(map(len, _METHODS))])
        is_known = any(start.startswith(method) or method.startswith(start) for method in _METHODS)
        if start != b"\r" and not is_known:
            raise invalid_request()

    def _check_incomplete(self, begin: int) -> None:
        """Raises ApiError for a head that can be no good, or it would be waited for in vain."""
        if len(self.data) + self._skipped >= MAX_HEAD_BYTES:
            raise _too_large(f"are larger than {MAX_HEAD_BYTES} bytes")
        if _LONE_LF.search(self.data, begin):
            raise invalid_request()


class Incoming:
    """One request. h11 keeps the state of it and of its answer."""

    def __init__(self, head: bytes, following: bytearray) -> None:
        """Takes the body from `following`. Raises ApiError if the head is not valid."""
        _check_bytes(head)
        self.http = h11.Connection(h11.SERVER, MAX_HEAD_BYTES)
        self.http.receive_data(head)
        event = self._next_event()
        if not isinstance(event, h11.Request):
            raise invalid_request()
        self.request = _checked(event, head)
        self.is_complete = False
        """Whether the body has been read to its end."""
        self._following = following
        self._fed = b""
        self._is_chunked = "transfer-encoding" in dict(self.request.headers)
        if not (self._is_chunked or self.request.length):
            self.read()

    def read(self) -> bytes | None:
        """The next piece of the body, nothing at its end; None if it has not come.

        Raises ApiError if the body is not valid. Trailers are dropped.
        """
        if self.is_complete:
            return b""
        event = self._next_event()
        if event is h11.NEED_DATA and self._following:
            self._fed = self._fed[-len(_BLANK_LINE) :] + self._following
            self.http.receive_data(bytes(self._following))
            self._following.clear()
            event = self._next_event()
        if isinstance(event, h11.Data):
            return bytes(event.data)
        if not isinstance(event, h11.EndOfMessage):
            return None
        self._end()
        return b""

    def _end(self) -> None:
        self.is_complete = True
        rest, _ = self.http.trailing_data
        if self._is_chunked and not self._fed.removesuffix(rest).endswith(_BLANK_LINE):
            raise invalid_request()  # to h11 a line feed alone ends a line of the trailers
        self._following[:0] = rest
        self._fed = b""

    def _next_event(self) -> object:
        try:
            return self.http.next_event()
        except h11.RemoteProtocolError as error:
            raise invalid_request() from error


def origin_of(head: bytes) -> str:
    """The origin whose page has sent a head, of which a part may be missing; empty without one."""
    found = _ORIGIN.search(head)
    return found[1].decode("latin-1") if found else ""


def invalid_request() -> ApiError:
    """An error for what is no HTTP; nothing that follows it can be trusted."""
    return closing(bad_request("Invalid HTTP request received."))


def _too_large(what: str) -> ApiError:
    text = f"The request's line and headers {what}"
    return closing(bad_request(text, status=HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE))


def _check_bytes(head: bytes) -> None:
    """Raises ApiError for what h11 forgives, and for what would take it long."""
    if head.count(b"\n") > MAX_HEADERS:
        raise _too_large(f"are more than {MAX_HEADERS} lines")
    if _ILLEGAL.search(head):
        raise invalid_request()
    codings = _TRANSFER_ENCODING.findall(head)
    if len(codings) == 1 and codings[0].lower() != b"chunked":
        text = "The only Transfer-Encoding that is understood is chunked"
        raise closing(ApiError(HTTPStatus.NOT_IMPLEMENTED, grpc.StatusCode.UNIMPLEMENTED, text))


def _checked(event: h11.Request, head: bytes) -> Request:
    """Raises ApiError for what h11 forgives."""
    fields = event.headers.raw_items()
    headers = [(name.lower().decode(), value.decode("latin-1")) for name, value in fields]
    names = [name for name, _ in headers]
    lengths = _LENGTH.findall(head)
    is_framed_twice = len(lengths) + names.count("transfer-encoding") > 1
    is_odd = any(not each.isdigit() or len(each) > MAX_LENGTH_DIGITS for each in lengths)
    is_old = event.http_version != b"1.1"
    target = _TARGET.fullmatch(event.target)
    if (
        event.http_version not in _VERSIONS
        or is_framed_twice
        or is_odd
        or (is_old and "transfer-encoding" in names)
        or not (target or event.target == b"*")
    ):
        raise invalid_request()
    authority, path, query = target.group("authority", "path", "query") if target else (None,) * 3
    return Request(
        method=event.method.decode(),
        path=(path or (b"/" if target else b"*")).decode(),
        query=query or b"",
        authority=authority.decode() if authority else dict(headers).get("host", ""),
        headers=headers,
        length=int(lengths[0]) if lengths else None,
        version=event.http_version.decode(),
    )
