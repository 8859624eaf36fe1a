"""Requests that make every metric be reported."""

from __future__ import annotations

import httpx
import orjson

from tests.contract.callers import JSON, PATH, Rest, chat

SCHEMA = {
    "type": "object",
    "properties": {"name": {"const": "a rather long name that is forced"}},
    "required": ["name"],
    "additionalProperties": False,
}
FORM = {"type": "json_object", "schema": SCHEMA}


def ask_all(rest: Rest) -> None:
    """Whole and streamed, with a grammar, with a prompt that comes again, refused, and left."""
    for _ in range(2):
        rest.whole(chat())
    rest.pieces(chat(max_tokens=8))
    rest.whole(chat(response_format=FORM, max_tokens=30))
    rest.refusal(chat(max_tokens=-1))
    leave(rest)


def leave(rest: Rest) -> None:
    """Reads the beginning of a long stream and goes."""
    body = orjson.dumps(chat(stream=True, max_tokens=5000, ignore_eos=True))
    with rest.http.stream("POST", PATH, content=body, headers=JSON) as response:
        assert response.status_code == httpx.codes.OK
        next(response.iter_bytes())
