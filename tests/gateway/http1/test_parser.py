"""What is a request and what is none: everything that two servers may read differently is none."""

from __future__ import annotations

import pytest

from rapport.gateway.errors import ApiError
from rapport.gateway.http1.parser import MAX_HEAD_BYTES, MAX_HEADERS, Incoming, Input

HOST = b"host: x\r\n"
CHUNKED = b"transfer-encoding: chunked\r\n"


def parsed(data: bytes) -> Incoming | None:
    """The first request, if its head has come; its body is read as far as it goes."""
    waiting = Input()
    waiting.data += data
    head = waiting.take_head()
    return None if head is None else Incoming(head, waiting.data)


def post(headers: bytes, body: bytes = b"") -> bytes:
    return b"POST / HTTP/1.1\r\n" + HOST + headers + b"\r\n" + body


def body_of(data: bytes) -> bytes:
    incoming, body = parsed(data), b""
    assert incoming is not None
    while piece := incoming.read():
        body += piece
    assert incoming.is_complete
    return body


REFUSED = {
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "two hosts": b"GET / HTTP/1.1\r\nhost: x\r\nhost: x\r\n\r\n",
    "line feeds alone": b"GET / HTTP/1.1\nhost: x\n\n",
    "one line feed alone": b"GET / HTTP/1.1\r\nhost: x\nx: y\r\n\r\n",
    "blank line of a line feed": b"GET / HTTP/1.1\r\nhost: x\r\n\nGET / HTTP/1.1\r\n\r\n",
    "carriage return alone": b"GET / HTTP/1.1\r\nhost: x\r\nx: y\rz: 1\r\n\r\n",
    "folded header": b"GET / HTTP/1.1\r\nhost: x\r\nx: 1\r\n 2\r\n\r\n",
    "NUL": b"GET / HTTP/1.1\r\nhost: x\r\nx: \0\r\n\r\n",
    "control character": b"GET / HTTP/1.1\r\nhost: x\r\nx: \x01\r\n\r\n",
    "space before the colon": post(b"content-length : 2\r\n"),
    "no name": post(b": 2\r\n"),
    "length and chunks": post(b"content-length: 2\r\n" + CHUNKED),
    "two lengths": post(b"content-length: 1\r\ncontent-length: 2\r\n"),
    "one length twice": post(b"content-length: 1\r\ncontent-length: 1\r\n"),
    "list of lengths": post(b"content-length: 1, 1\r\n"),
    "signed length": post(b"content-length: +1\r\n"),
    "no length": post(b"content-length:\r\n"),
    "huge length": post(b"content-length: 99999999999999999999\r\n"),
    "chunks twice": post(CHUNKED * 2),
    "chunks in HTTP/1.0": b"POST / HTTP/1.0\r\n" + CHUNKED + b"\r\n",
    "HTTP/2.0": b"GET / HTTP/2.0\r\nhost: x\r\n\r\n",
    "HTTP/0.9": b"GET /\r\n\r\n",
    "lower case": b"get / HTTP/1.1\r\nhost: x\r\n\r\n",
    "no method": b"BREW / HTTP/1.1\r\nhost: x\r\n\r\n",
    "space in the path": b"GET /a b HTTP/1.1\r\nhost: x\r\n\r\n",
    "no path": b"GET a HTTP/1.1\r\nhost: x\r\n\r\n",
    "tunnel": b"CONNECT example.org:443 HTTP/1.1\r\nhost: x\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00",
    "beginning of nothing": b"xxxx",
    "space first": b" GET / HTTP/1.1\r\nhost: x\r\n\r\n",
}


@pytest.mark.parametrize("data", REFUSED.values(), ids=REFUSED)
def test_refused(data: bytes) -> None:
    """It is a 400, after which the connection ends."""
    with pytest.raises(ApiError) as raised:
        parsed(data)
    assert raised.value.status == 400
    assert raised.value.headers["connection"] == "close"


@pytest.mark.parametrize("coding", [b"gzip", b"gzip, chunked", b"identity", b""])
def test_transfer_codings(coding: bytes) -> None:
    """A transfer coding other than chunked is a 501 (RFC 9112, 6.1), and ends the connection."""
    with pytest.raises(ApiError) as raised:
        parsed(post(b"transfer-encoding: %b\r\n" % coding))
    assert raised.value.status == 501
    assert raised.value.headers["connection"] == "close"


BAD_BODIES = {
    "bad size": b"zz\r\n{}\r\n0\r\n\r\n",
    "too long": b"2\r\n{}}\r\n0\r\n\r\n",
    "line feed behind a chunk": b"2\r\n{}\n0\r\n\r\n",
    "huge size": b"FFFFFFFFFFFFFFFFFFFFF\r\n{}",
    "line feed as the end": b"2\r\n{}\r\n0\r\n\nGET / HTTP/1.1\r\nhost: x\r\n\r\n",
    "line feed in the trailers": b"2\r\n{}\r\n0\r\nx: y\n\nGET / HTTP/1.1\r\nhost: x\r\n\r\n",
    "trailer that is none": b"2\r\n{}\r\n0\r\nx y\r\n\r\n",
    "endless size": b"1" * 70_000,
    "endless trailers": b"0\r\n" + b"x: y\r\n" * 20_000,
}


@pytest.mark.parametrize("body", BAD_BODIES.values(), ids=BAD_BODIES)
def test_bad_chunks(body: bytes) -> None:
    """So is a body whose end two servers may see in two places, or that is none."""
    with pytest.raises(ApiError) as raised:
        body_of(post(CHUNKED, body))
    assert raised.value.status == 400


def test_large_heads() -> None:
    """A head is a 431 as soon as it is known to be too large, in bytes or in lines."""
    for head in (b"x" * MAX_HEAD_BYTES, b"a: b\r\n" * MAX_HEADERS + b"\r\n"):
        with pytest.raises(ApiError) as raised:
            parsed(b"GET / HTTP/1.1\r\nhost: x\r\n" + head)
        assert raised.value.status == 431


@pytest.mark.parametrize(
    ("target", "authority", "path", "query"),
    [
        (b"/a%2Fb?c=d&e#f", "x", "/a%2Fb", b"c=d&e"),
        (b"/", "x", "/", b""),
        (b"*", "x", "*", b""),
        (b"http://y.z:80/a?b", "y.z:80", "/a", b"b"),
        (b"HTTPS://y", "y", "/", b""),
    ],
)
def test_target(target: bytes, authority: str, path: str, query: bytes) -> None:
    """A target that names its host counts more than the Host header (RFC 9112, 3.2.2)."""
    incoming = parsed(b"GET " + target + b" HTTP/1.1\r\n" + HOST + b"\r\n")
    assert incoming is not None
    request = incoming.request
    assert (request.authority, request.path, request.query) == (authority, path, query)


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_any_pieces(size: int) -> None:
    """Requests are the same in whatever pieces they come, and each takes what is its own."""
    chunks = b"3;a=b\r\nabc\r\n1\r\nd\r\n0\r\nx: y\r\n\r\n"
    sent = b"\r\n" + post(CHUNKED, chunks) + post(b"content-length: 2\r\n", b"ef") + post(b"")
    waiting, incoming, bodies = Input(), None, [b""]
    for begin in range(0, len(sent), size):
        waiting.data += sent[begin : begin + size]
        while incoming or (head := waiting.take_head()):
            incoming = incoming or Incoming(head, waiting.data)
            while piece := incoming.read():
                bodies[-1] += piece
            if piece is None:
                break
            incoming = None
            bodies.append(b"")
    assert bodies == [b"abcd", b"ef", b"", b""]


@pytest.mark.parametrize(
    "value", [b" " * 60_000, b"a " * 30_000, b"\t " * 30_000 + b"a", b"a" * 60_000]
)
def test_long_values_are_read_in_no_time(value: bytes) -> None:
    """No value makes the patterns of the parser go over it again and again."""
    assert parsed(b"GET / HTTP/1.1\r\nhost: x\r\nx:" + value + b"\r\n\r\n") is not None
    with pytest.raises(ApiError):
        parsed(b"GET / HTTP/1.1\r\nhost: x\r\nx:" + value + b"\0\r\n\r\n")
