"""Requests over HTTP, byte for byte, and their answers without what varies."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.client
import json
import re
import socket
from typing import Any

from tests.recorded.masks import Names, header_lines, masked
from tests.recorded.spec import BASE, Json

TIMEOUT = 60.0
CHAT = "/v1/chat/completions"
JSON_TYPE = "application/json"
# What stands in a body whose length varies, and the length.
VARYING = ("<seconds>", "<number>", "≈")
LENGTH = re.compile(r"(?<=^content-length: )\d+")


def ask(address: str, request: Json) -> Json:
    """The answer to a request, over a connection of its own; `address` is a URL."""
    host, _, port = address.removeprefix("http://").partition(":")
    names = Names()
    with contextlib.closing(socket.create_connection((host, int(port)), TIMEOUT)) as connection:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(encoded(request))
        response = http.client.HTTPResponse(connection, method=method_of(request))
        with contextlib.closing(response):
            try:
                response.begin()
            except (http.client.HTTPException, ConnectionResetError) as error:
                return {"no answer": type(error).__name__}
            return answer_of(response, names, request)


def answer_of(response: http.client.HTTPResponse, names: Names, request: Json) -> Json:
    version = {10: "HTTP/1.0", 11: "HTTP/1.1"}[response.version]
    answer: Json = {
        "status": f"{version} {response.status} {response.reason}",
        "headers": header_lines(response.getheaders(), names),
    }
    try:
        body = response.read()
    except http.client.IncompleteRead as error:
        body, answer["cut"] = error.partial, True
    answer["body"] = kept(body, names, request)
    if any(mark in str(answer["body"]) for mark in VARYING):
        answer["headers"] = [LENGTH.sub("<length>", line) for line in answer["headers"]]
    return answer


def kept(body: bytes, names: Names, request: Json) -> Any:
    """A body as it is kept: a text, its lines, or of a long one a hash."""
    try:
        text = masked(body.decode(), names, request.get("mask", ""))
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(body).decode()}
    if request.get("digest"):
        return {"sha256": hashlib.sha256(text.encode()).hexdigest()}
    return text.split("\n") if "\n" in text else text


def method_of(request: Json) -> str:
    if "raw" in request:
        return str(request["raw"][0]).partition(" ")[0]
    return str(request.get("method", "GET" if "path" in request else "POST"))


def encoded(request: Json) -> bytes:
    """The bytes of a request."""
    if "raw" in request:
        return "\r\n".join(request["raw"]).encode("latin-1")
    headers: Json = {"host": "localhost"}
    body, framing = body_of(request)
    if body is not None:
        headers |= framing
    headers |= request.get("headers", {})
    path = request.get("path", CHAT)
    lines = [f"{method_of(request)} {path} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in headers.items() if value is not None]
    head = "\r\n".join([*lines, "", ""]).encode("latin-1")
    return head + (body or b"")


def body_of(request: Json) -> tuple[bytes | None, Json]:
    """A request's body, if it has one, and the headers that go with it."""
    kind = {"content-type": JSON_TYPE}
    if "chunks" in request:
        pieces = [piece.encode() * request.get("times", 1) for piece in request["chunks"]]
        chunks = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in (*pieces, b""))
        return chunks, kind | {"transfer-encoding": "chunked"}
    body = plain_body(request)
    if body is None:
        return None, {}
    return body, kind | {"content-length": len(body)}


def plain_body(request: Json) -> bytes | None:
    if "chat" in request:
        return dumped(chat_of(request))
    if "json" in request:
        return dumped(request["json"])
    if "text" in request:
        return str(request["text"]).encode() * int(request.get("times", 1))
    if "base64" in request:
        return base64.b64decode(request["base64"]) * int(request.get("times", 1))
    return None


def chat_of(request: Json) -> Json:
    fields: Json = BASE | request["chat"]
    return {name: fields[name] for name in fields if name not in request.get("without", ())}


def dumped(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
