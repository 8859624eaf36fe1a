"""A file of API keys, and how callers use them."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import grpc
import pytest

from rapport.service.keys.key_store import hash_key
from tests.service.requests import MODEL

KEYS = {
    "free": "",
    "slow": "requests_per_minute = 2",
    "narrow": "concurrent = 2",
    "tokens": "prompt_tokens_per_minute = 4\ngenerated_tokens_per_minute = 10",
    "crowd": "user_requests_per_minute = 1",
    "other": 'models = ["other"]\nrequests_per_minute = 1',
    "ours": f'models = ["{MODEL}"]',
    "gone": "disabled = true",
}


def key_file_text(keys: dict[str, str]) -> str:
    tables = (f'[{key}]\nhash = "{hash_key(key.encode())}"\n{rest}\n' for key, rest in keys.items())
    return "".join(tables)


def shown(key: str) -> dict[str, Any]:
    return {"metadata": (("authorization", f"Bearer {key}"),)}


async def refusal(call: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call
    return raised.value


async def status(call: Any) -> int:
    """The number of the status that a call ends with; 0 is OK."""
    with suppress(grpc.aio.AioRpcError):
        await call
    number: int = (await call.code()).value[0]
    return number


def rates(metadata: Any) -> dict[str, str]:
    return {name: value for name, value in metadata if name.startswith("x-ratelimit-")}
