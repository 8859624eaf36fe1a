"""The requests that are recorded, and where their answers are kept.

Each file of `requests/` is a topic: the server that it asks, and requests by their names. A
request has one of these forms:

    {"chat": {…}}        a chat request over REST: fields beside or instead of those of BASE;
                         `without` names those to leave out, `headers` adds or, by null, removes
    {"path": "/…"}       any HTTP request, with `method`, `headers`, and `json`, `text`, `base64`
                         or `chunks` for its body, said `times` times
    {"raw": ["…", …]}    lines of HTTP as they are
    {"call": "Chat/…"}   a call over gRPC, with `message` as JSON of protobuf, or `base64`, said
                         `times` times, `metadata` and `timeout`
    {"command": [...]}   a run of the command, of which the status counts, or with `options`
                         the names and the defaults in its help
    {"metrics": "…"}     names, types and labels of the service's or the gateway's metrics

`digest` keeps a hash of a long body, `mask` says what varies besides: "numbers" or "details".
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Json = dict[str, Any]

HERE = Path(__file__).parent
REQUESTS, ANSWERS = HERE / "requests", HERE / "answers"
# In this order, for the prefix cache and the metrics remember what was asked.
TOPICS = (
    "fields",
    "fields_grpc",
    "messages",
    "messages_grpc",
    "tools",
    "tools_grpc",
    "formats",
    "formats_grpc",
    "routes",
    "bodies",
    "http",
    "grpc",
    "faults",
    "streams",
    "streams_grpc",
    "completion_streams",
    "keys",
    "keys_grpc",
    "completions",
    "completions_grpc",
    "metrics",
    "commands",
)
NO_SERVER = "none"
"""What commands are asked of."""

# For all servers: an answer depends on nothing but its request and the prefix cache.
COMMON: Json = {
    "deterministic": True,
    "drafts": False,
    "threads": 1,
    "default_max_tokens": 8,
    "user_hash_salt": "salt",
}
FAILING = [f"decode:raise@{step}" for step in (3, 6, 9)]
LATE = [f"decode:delay=0.1@{step}" for step in range(1, 10)]
SERVERS: dict[str, Json] = {
    "open": {"max_body_bytes": 65536, "max_message_bytes": 1 << 20, "slots": 4},
    # A step takes so long that each token is a piece of a stream, whatever else the machine does.
    # The steps that fail are those of the first requests, which cannot be asked again.
    "slow": {
        "inject_faults": True,
        "faults": ",".join(["decode:delay=0.02", *LATE, *FAILING]),
        "prefix_cache": 0,
    },
    "keys": {
        "api_keys": "rk-plain,rk-other",
        "unknown_fields": "ignore",
        "stop_in_output": "exclude",
        "max_request_tokens": 64,
    },
}
# Answers of these come in pieces, which a stall of the machine may join.
PIECEMEAL = ("streams", "streams_grpc", "completion_streams")
# The keys of the file by their names; a key is "rk-" and its name.
KEY_FILE: dict[str, Json] = {
    "limited": {"requests_per_minute": 3},
    "counted": {
        "requests_per_minute": 6,
        "prompt_tokens_per_minute": 100_000,
        "cache_adjusted_prompt_tokens_per_minute": 100_000,
        "generated_tokens_per_minute": 100_000,
        "concurrent": 10,
    },
    "spent": {"generated_tokens_per_minute": 2},
    "prompts": {"prompt_tokens_per_minute": 20},
    "users": {"user_requests_per_minute": 1},
    "bound": {"models": ["other"]},
    "admin": {"admin": True},
    "free": {"models": ["tiny"]},
    "disabled": {"disabled": True},
}

# What a chat request has unless it says otherwise.
BASE: Json = {
    "model": "tiny",
    "messages": [{"role": "user", "content": "Hi"}],
    "temperature": 0,
    "max_tokens": 3,
}


@dataclass(frozen=True, eq=False)
class Case:
    """A request of a topic."""

    topic: str
    name: str
    server: str
    request: Json

    def __str__(self) -> str:
        return f"{self.topic}: {self.name}"


def cases() -> list[Case]:
    """All of them, in the order in which they are asked."""
    return [case for topic in TOPICS for case in cases_of(topic)]


def cases_of(topic: str) -> Iterator[Case]:
    file = json.loads((REQUESTS / f"{topic}.json").read_text(encoding="utf-8"))
    for name, request in file["requests"].items():
        yield Case(topic, name, file["server"], request)


def recorded(topic: str) -> Json:
    """The answers of a topic by the names of their requests; none if there is no file yet."""
    path = ANSWERS / f"{topic}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def keep(topic: str, answers: Json) -> None:
    text = json.dumps(answers, indent=1, ensure_ascii=False)
    (ANSWERS / f"{topic}.json").write_text(text + "\n", encoding="utf-8")


def key_file() -> str:
    """The file of API keys, in TOML."""
    lines: list[str] = []
    for name, entry in KEY_FILE.items():
        lines += [f"[{name}]", f'hash = "{hashlib.sha256(f"rk-{name}".encode()).hexdigest()}"']
        lines += [f"{key} = {json.dumps(value)}" for key, value in entry.items()]
    return "\n".join(lines) + "\n"
