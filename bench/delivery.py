"""The cost of delivering tokens, without that of the model: `python -m bench.delivery`.

With a model that takes no time, or one of `--rate` steps per second, it prints tokens per second,
messages per token, and the CPU time of service and gateway per token, over REST and over gRPC.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass

import grpc
import orjson
import psutil
import uvloop

from bench import wire
from bench.instant import STEP
from bench.processes import Watch
from bench.server import Server, free_ports
from rapport.models.importer import ensure
from rapport.models.onnx.precision import cpu_precision
from rapport.v1 import chat_pb2, message_pb2

MODEL = "smollm2-135m-instruct"
PROMPT = "Say something long."
MAX_ANSWER_TOKENS = 7000
STOP_TIMEOUT_S = 15.0

Receive = Callable[[], Awaitable[wire.Received]]


@dataclass(frozen=True, slots=True)
class Target:
    """The addresses of service and gateway, and their processes."""

    rest: str
    grpc: str
    parts: dict[str, list[psutil.Process]]


def main() -> None:
    """Measures everything that the options ask for."""
    options = parsed()
    # SIGTERM is treated as Ctrl-C, so that either ends the processes that were started.
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    with serving(options) as target:
        uvloop.run(measure(options, target))


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m bench.delivery", description=__doc__)
    parser.add_argument("--streams", type=int, default=64, help="streams at a time")
    parser.add_argument("--tokens", type=int, default=1000, help="tokens of a stream")
    parser.add_argument("--rounds", type=int, default=3, help="how often each is measured")
    parser.add_argument("--rate", type=float, help="steps per second (default: unlimited)")
    parser.add_argument("--stuck", type=int, default=0, help="REST clients that do not read")
    return parser.parse_args()


@contextmanager
def serving(options: argparse.Namespace) -> Iterator[Target]:
    """The instant service and the gateway, as two processes."""
    grpc_port, http_port = free_ports(2)
    rest = f"http://127.0.0.1:{http_port}"
    environment = os.environ | {
        "RAPPORT_GRPC_PORT": str(grpc_port),
        "RAPPORT_HTTP_PORT": str(http_port),
        "RAPPORT_METRICS_PORT": "0",
        "RAPPORT_GATEWAY_METRICS_PORT": "0",
        "RAPPORT_MODEL_FOLDER": str(ensure(MODEL, cpu_precision())),
        "RAPPORT_SLOTS": str(options.streams + options.stuck),
        # The model stores no keys and values, so the budget is only a number.
        "RAPPORT_KV_BUDGET": "1TiB",
        STEP: str(1 / options.rate if options.rate else 0),
    }
    with (
        child([sys.executable, "-m", "bench.instant"], environment) as service,
        Server([sys.executable, "-m", "rapport.gateway"], environment, f"{rest}/health") as gateway,
    ):
        parts = {"service": [psutil.Process(service)], "gateway": [psutil.Process(gateway.pid)]}
        yield Target(rest, f"127.0.0.1:{grpc_port}", parts)


@contextmanager
def child(command: list[str], environment: dict[str, str]) -> Iterator[int]:
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    try:
        yield process.pid
    finally:
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


async def measure(options: argparse.Namespace, target: Target) -> None:
    """Prints a line for each round, REST and gRPC in turn."""
    body, message = rest_body(options.tokens), grpc_request(options.tokens)
    async with AsyncExitStack() as stack:
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(target.grpc))
        for _ in range(options.stuck):
            await stack.enter_async_context(wire.stuck(target.rest, unread_body()))
        ways: dict[str, Receive] = {
            "REST": lambda: wire.receive_events(target.rest, body),
            "gRPC": lambda: wire.receive_messages(channel, message),
        }
        for receive in ways.values():
            await receive()
        for _ in range(options.rounds):
            for name, receive in ways.items():
                await measure_once(name, receive, options.streams, target)


async def measure_once(name: str, receive: Receive, streams: int, target: Target) -> None:
    began = time.perf_counter()
    async with Watch(target.parts) as watch:
        all_received = await asyncio.gather(*(receive() for _ in range(streams)))
    took = time.perf_counter() - began
    tokens = sum(received.tokens for received in all_received)
    messages = sum(received.messages for received in all_received)
    line = f"{name}: {tokens / took:7.0f} tokens/s, {messages / tokens:.2f} messages/token"
    for part, used in watch.resources.items():
        cost = used.cpu_seconds / tokens * 1e6
        line += f"; {part} {cost:.0f} us CPU/token, {used.rss_end / 2**20:.0f} MiB"
    print(line, flush=True)


def rest_body(tokens: int, **more: object) -> bytes:
    return orjson.dumps(
        {
            "model": MODEL,
            "messages": [{"role": "user", "content": PROMPT}],
            "max_tokens": tokens,
            "temperature": 0,
            "stream": True,
        }
        | more
    )


def unread_body() -> bytes:
    """A request whose answer exceeds the buffers of sockets and HTTP/2 (megabytes)."""
    return rest_body(MAX_ANSWER_TOKENS, logprobs=True, top_logprobs=5)


def grpc_request(tokens: int) -> bytes:
    content = message_pb2.ChatContent(text=PROMPT)
    return chat_pb2.CreateChatCompletionRequest(
        model=MODEL,
        messages=[message_pb2.ChatMessage(role=message_pb2.ROLE_USER, content=content)],
        max_tokens=tokens,
        temperature=0,
    ).SerializeToString()


if __name__ == "__main__":
    main()
