"""Which requests belong to the same replica, as they share the beginning of their prompts.

A load balancer hashes the header `x-session-affinity`. The gateway sets it by this function, and
so may callers of gRPC:

    metadata = [(AFFINITY_HEADER, affinity_key(request))]
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from hashlib import sha256
from itertools import islice
from types import MappingProxyType
from typing import Any

from google.protobuf.message import Message

AFFINITY_HEADER = "x-session-affinity"
SESSION_HEADER = "x-multi-turn-session-id"

NO_HEADERS: Mapping[str, str] = MappingProxyType({})
DIGEST_CHARS = 32
# What is hashed of a request that names no key. Prompts that share so much belong together, and
# hashing more of a long one would take its caller's time.
MAX_TURNS = 16
MAX_PART_BYTES = 16 << 10
MAX_PROMPT_CHARS = MAX_PROMPT_TOKENS = 256


def affinity_key(request: Message, headers: Mapping[str, str] = NO_HEADERS) -> str:
    """The key of a request; empty if it has none.

    The first there is of: `prompt_cache_key`, the header `x-session-affinity`, the header
    `x-multi-turn-session-id`, `user`, and the beginning of the prompt: the model, the tools, and
    the messages up to the first of the user. All but `x-session-affinity` are hashed, so that
    proxies see nothing of them, and any text makes a valid header.

    Args:
        request: a message; one that is no chat or completion request has no key of its own.
        headers: headers or metadata of the request by their names in lower case.
    """
    beginning = _BEGINNINGS.get(request.DESCRIPTOR.full_name)
    # Another API's fields may have these names and mean something else.
    labels = request if beginning else None
    if key := getattr(labels, "prompt_cache_key", ""):
        return _digest("prompt_cache_key", [key.encode()])
    if key := headers.get(AFFINITY_HEADER, ""):
        return key
    if key := headers.get(SESSION_HEADER, ""):
        return _digest("session", [key.encode()])
    if key := getattr(labels, "user", ""):
        return _digest("user", [key.encode()])
    if beginning is None:
        return ""
    return _digest("beginning", (part[:MAX_PART_BYTES] for part in beginning(request)))


def _digest(kind: str, parts: Iterable[bytes]) -> str:
    digest = sha256(kind.encode())
    for part in parts:
        digest.update(len(part).to_bytes(4, "big"))
        digest.update(part)
    return digest.hexdigest()[:DIGEST_CHARS]


def _first_turns(request: Any) -> Iterator[bytes]:
    """The model, the tools and the messages up to the first of the user: they stay in a chat."""
    yield request.model.encode()
    for tool in islice(request.tools, MAX_TURNS):
        yield tool.SerializeToString(deterministic=True)
    for message in islice(request.messages, MAX_TURNS):
        yield message.SerializeToString(deterministic=True)
        role = message.DESCRIPTOR.fields_by_name["role"].enum_type
        if message.role == role.values_by_name["ROLE_USER"].number:
            return


def _prompt_beginning(request: Any) -> Iterator[bytes]:
    """The model and the beginning of the prompt, or of the first one."""
    yield request.model.encode()
    prompt = request.prompt
    texts = [prompt.text, *prompt.texts.items[:1]]
    tokens = [prompt.token_ids, *prompt.token_lists.items[:1]]
    for text in texts:
        yield text[:MAX_PROMPT_CHARS].encode()
    for ids in tokens:
        yield repr(ids.items[:MAX_PROMPT_TOKENS]).encode()


_BEGINNINGS: Mapping[str, Callable[[Any], Iterator[bytes]]] = {
    "rapport.v1.CreateChatCompletionRequest": _first_turns,
    "rapport.v1.CreateCompletionRequest": _prompt_beginning,
}
