"""Full load of all kinds for minutes, with callers that disconnect: nothing may leak or get lost.

python -m bench.soak --minutes 10
"""

from __future__ import annotations

import argparse
import asyncio
import re
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from statistics import median
from time import monotonic
from typing import Any

import grpc
import httpx
import orjson
import psutil

from bench.processes import Parts, lazily_freed
from bench.progress import show_progress
from bench.server import rapport
from bench.workload import WORDS
from rapport.v1 import chat_pb2, chat_pb2_grpc, message_pb2

MODEL = "smollm2-135m-instruct"
PATH = "/v1/chat/completions"
# More callers than slots, so that some wait.
REST_CALLERS, GRPC_CALLERS = 24, 8
SAMPLE_S = 2.0
ONE_IN_FIVE = [True, False, False, False, False]
SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 12},
        "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "maxItems": 3},
        "count": {"type": "integer", "minimum": 0, "maximum": 99},
    },
    "required": ["name", "tags", "count"],
    "additionalProperties": False,
}
FORMATS: list[dict[str, Any] | None] = [
    None,
    None,
    {"type": "json_object"},
    {"type": "json_schema", "json_schema": {"name": "thing", "schema": SCHEMA}},
    {"type": "grammar", "grammar": 'root ::= "yes" | "no"'},
]
TOOL = {
    "type": "function",
    "function": {"name": "store", "description": "Stores a thing.", "parameters": SCHEMA},
}
# The growth of memory from the second third to the last, and the samples that it needs.
MAX_GROWTH, MIN_SAMPLES = 0.05, 90
ACCOUNT = re.compile(
    r"requests: (\d+) accepted, (\d+) finished, (\d+) cancelled, (\d+) failed; "
    r"slots: (\d+) taken, (\d+) released"
)


@dataclass(slots=True)
class Tally:
    """How requests ended for their callers, and the memory of each part over time.

    Memory that was freed lazily does not count: each slot keeps some, up to the largest size that
    it ever had, and the kernel takes it only when it needs memory.
    """

    outcomes: Counter[str] = field(default_factory=Counter)
    memory: dict[str, list[int]] = field(default_factory=dict)

    def growth(self, part: str) -> float:
        """The median of the last third over that of the second third, minus one."""
        samples = self.memory[part]
        third = len(samples) // 3
        return median(samples[-third:]) / median(samples[third : 2 * third]) - 1

    def is_flat(self, part: str) -> bool:
        """Whether memory did not grow, or the run was too short to tell."""
        return len(self.memory[part]) < MIN_SAMPLES or self.growth(part) <= MAX_GROWTH


def body_of(random: Random) -> dict[str, Any]:
    """A random request that the service must answer."""
    words = int(10 ** random.uniform(0.5, 3))
    body: dict[str, Any] = {
        "model": MODEL,
        "messages": [{"role": "user", "content": " ".join(random.choices(WORDS, k=words))}],
        "max_tokens": int(10 ** random.uniform(0, 2.2)),
        "n": random.choice([1, 1, 1, 2, 3]),
        "temperature": random.choice([0, 0.7, 1.5]),
        "seed": random.randrange(1000),
        "stream": random.choice([True, True, False]),
        "user": random.choice(["one", "two", "three"]),
    }
    if (chosen := random.choice(FORMATS)) is not None:
        body["response_format"] = chosen
    if "response_format" not in body and random.choice(ONE_IN_FIVE):
        body |= {"tools": [TOOL], "tool_choice": random.choice(["auto", "required"])}
    if random.choice(ONE_IN_FIVE):
        body |= {"logprobs": True, "top_logprobs": 2}
    if random.choice(ONE_IN_FIVE):
        body |= {"stop": [" the", "."], "frequency_penalty": 0.5}
    return body


async def call_rest(http: httpx.AsyncClient, random: Random) -> str:
    """Sends one request, and returns how it ended."""
    body = body_of(random)
    headers = {"content-type": "application/json"}
    content = orjson.dumps(body)
    async with http.stream("POST", PATH, content=content, headers=headers) as response:
        answer = await response.aread()
    if response.status_code != httpx.codes.OK:
        return f"HTTP {response.status_code}"
    if body["stream"]:
        return "ok" if answer.endswith(b"data: [DONE]\n\n") else "cut off"
    choices = orjson.loads(answer)["choices"]
    return "ok" if len(choices) == body["n"] else "choices missing"


async def call_grpc(stub: chat_pb2_grpc.ChatServiceAsyncStub, random: Random) -> str:
    body = body_of(random)
    content = message_pb2.ChatContent(text=body["messages"][0]["content"])
    request = chat_pb2.CreateChatCompletionRequest(
        model=MODEL,
        messages=[message_pb2.ChatMessage(role=message_pb2.ROLE_USER, content=content)],
        max_tokens=body["max_tokens"],
        n=body["n"],
    )
    finished = 0
    try:
        async for piece in stub.StreamChatCompletion(request):
            finished += sum(bool(choice.finish_reason) for choice in piece.choices)
    except grpc.aio.AioRpcError as error:
        return error.code().name
    return "ok" if finished == body["n"] else "choices missing"


async def keep_calling(call: Any, random: Random, tally: Tally, until: float) -> None:
    """Sends one request after the other, and cancels a third of them before they end."""
    while monotonic() < until:
        patience = random.uniform(0, 3) if random.random() < 1 / 3 else None
        try:
            outcome = await asyncio.wait_for(call(random), patience)
        except TimeoutError:
            outcome = "left"
        except httpx.HTTPError as error:
            outcome = type(error).__name__
        tally.outcomes[outcome] += 1


async def watch(parts: Parts, tally: Tally) -> None:
    while True:
        for name, processes in parts.items():
            own = sum(process.memory_info().rss - lazily_freed(process) for process in processes)
            tally.memory.setdefault(name, []).append(own)
        await asyncio.sleep(SAMPLE_S)


async def load(rest: str, grpc_address: str, parts: Parts, seconds: float, seed: int) -> Tally:
    """Calls over both protocols for `seconds`."""
    tally, until = Tally(), monotonic() + seconds
    limits = httpx.Limits(max_connections=None)
    watching = asyncio.create_task(watch(parts, tally))
    async with (
        httpx.AsyncClient(base_url=rest, timeout=None, limits=limits, trust_env=False) as http,  # noqa: S113 - a lost answer must show as a hang
        grpc.aio.insecure_channel(grpc_address) as channel,
    ):
        stub = chat_pb2_grpc.ChatServiceStub(channel)
        async with asyncio.TaskGroup() as callers:
            for number in range(REST_CALLERS + GRPC_CALLERS):
                random = Random(f"{seed}/{number}")  # noqa: S311 - requests, not secrets
                over_rest = number < REST_CALLERS

                async def call(random: Random, *, over_rest: bool = over_rest) -> str:
                    return await (call_rest(http, random) if over_rest else call_grpc(stub, random))

                callers.create_task(keep_calling(call, random, tally, until))
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching
    return tally


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 0 if every request is accounted for and memory did not grow."""
    parser = argparse.ArgumentParser(prog="python -m bench.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    show_progress(f"{REST_CALLERS} callers over REST and {GRPC_CALLERS} over gRPC")
    # Without a limit on the waiting time no caller may be refused.
    with rapport(max_ttft=0) as (server, target):
        assert target.rest and target.grpc, "a server that the bench starts has both"  # noqa: S101, PT018 - an invariant
        parts = target.parts() | {"bench": [psutil.Process()]}
        seconds = 60 * options.minutes
        tally = asyncio.run(load(target.rest, target.grpc, parts, seconds, options.seed))
    return report(tally, server.last_words, options.json)


def report(tally: Tally, last_words: str, path: Path | None) -> int:
    """Prints the counts. Returns 0 if they add up."""
    found = ACCOUNT.search(last_words)
    if found is None:
        print(f"the service gave no account:\n{last_words}", file=sys.stderr)
        return 1
    accepted, finished, cancelled, failed, taken, released = map(int, found.groups())
    growth = {name: tally.growth(name) for name in tally.memory}
    print("for the callers:", dict(tally.outcomes))
    print("for the service:", found[0])
    for name, samples in tally.memory.items():
        peak = max(samples) / 2**20
        print(f"memory of {name}: peak {peak:.0f} MiB, last third {growth[name]:+.1%}")
    if path is not None:
        results = {"outcomes": tally.outcomes, "account": found[0], "growth": growth}
        path.write_bytes(orjson.dumps(results | {"memory": tally.memory}))
    balanced = accepted == finished + cancelled + failed and taken == released and failed == 0
    flat = all(tally.is_flat(name) for name in tally.memory)
    return 0 if balanced and flat and set(tally.outcomes) <= {"ok", "left"} else 1


if __name__ == "__main__":
    sys.exit(main())
