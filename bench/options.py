"""The options of the command line."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from bench.errors import BenchError
from bench.load import Closed, Open
from bench.scenario import Limits
from bench.server import check_loopback
from bench.workload import Workload

_Value = TypeVar("_Value")

PROTOCOLS = ("rest", "grpc")
DEFAULT_CONCURRENCY = [1, 8]
DESCRIPTION = (
    "Loads a server on this machine and reports latency, throughput, CPU and memory. Without "
    "--rest and --grpc it starts `rapport serve` and ends it. RAPPORT_* variables apply to that "
    "server; the first of RAPPORT_API_KEYS is sent with every request."
)


@dataclass(frozen=True, slots=True)
class Options:
    """What to measure, on which server, and where to write the figures."""

    rest: str | None
    grpc: str | None
    protocols: list[str]
    loads: list[Closed | Open]
    workload: Workload
    limits: Limits
    warmup: int
    gateway_cost: bool
    startup: bool
    rounds: int | None
    json: str | None


def parse(arguments: Sequence[str]) -> Options:
    """Reads the command line.

    Raises:
        SystemExit: it is wrong, or help was asked for.
    """
    parser = _parser()
    given = parser.parse_args(arguments)
    try:
        return _options(given)
    except BenchError as error:
        parser.error(str(error))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("bench", description=DESCRIPTION, allow_abbrev=False)
    _add_target(parser.add_argument_group("server"))
    _add_load(parser.add_argument_group("load"))
    _add_workload(parser.add_argument_group("requests"))
    add = parser.add_argument_group(
        "other measurements (alone unless a load is given)"
    ).add_argument
    add("--gateway-cost", action="store_true", help="REST and gRPC in pairs, one at a time")
    add("--startup", action="store_true", help="time from start to healthy")
    add("--rounds", type=bounded(int, 1, 1000), help="pairs (default 30), starts (default 5)")
    parser.add_argument("--json", metavar="PATH", help="write all figures there; - is stdout")
    return parser


def _add_target(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--rest", metavar="URL", help="a server that runs, such as http://127.0.0.1:8080")
    add("--grpc", metavar="ADDRESS", help="a server that runs, such as 127.0.0.1:50051")
    add("--protocol", type=listed(str), help="rest, grpc or both (default: all there are)")


def _add_load(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    level = listed(bounded(int, 1, 1024))
    add("--concurrency", type=level, help="closed loop: clients at a time (default 1,8)")
    add(
        "--requests",
        type=bounded(int, 1, 100_000),
        default=32,
        help="of each level, at least one a client (%(default)s)",
    )
    add("--rate", type=bounded(float, 0.01, 1000), help="open loop: requests a second")
    add("--duration", type=bounded(float, 0.1, 3600), default=30.0, help="seconds (%(default)s)")
    add("--warmup", type=bounded(int, 0, 100), default=2, help="uncounted requests (%(default)s)")
    add(
        "--timeout", type=bounded(float, 0.1, 3600), default=120.0, help="per request (%(default)s)"
    )
    add("--time-limit", type=bounded(float, 1, 7200), default=600.0, help="per load (%(default)s)")


def _add_workload(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--model", default="smollm2-135m-instruct", help="%(default)s")
    add("--prompt-tokens", type=bounded(int, 24, 100_000), default=128, help="about (%(default)s)")
    add("--max-tokens", type=bounded(int, 1, 100_000), default=128, help="(%(default)s)")
    add("--temperature", type=bounded(float, 0, 2), default=0.0, help="(%(default)s)")
    seed = "of prompts and arrivals; a server that caches prompts needs a new one (%(default)s)"
    add("--seed", type=int, default=0, help=seed)


def _options(given: argparse.Namespace) -> Options:
    rest = check_loopback(given.rest) if given.rest else None
    grpc = check_loopback(given.grpc) if given.grpc else None
    there = [name for name in PROTOCOLS if getattr(given, name)] or list(PROTOCOLS)
    options = Options(
        rest=rest,
        grpc=grpc,
        protocols=given.protocol or there,
        loads=_loads(given),
        workload=Workload(
            given.model, given.prompt_tokens, given.max_tokens, given.temperature, given.seed
        ),
        limits=Limits(given.timeout, given.time_limit),
        warmup=given.warmup,
        gateway_cost=given.gateway_cost,
        startup=given.startup,
        rounds=given.rounds,
        json=given.json,
    )
    _check(options, there)
    return options


def _loads(given: argparse.Namespace) -> list[Closed | Open]:
    levels = given.concurrency or []
    if not (levels or given.rate or given.gateway_cost or given.startup):
        levels = DEFAULT_CONCURRENCY
    loads: list[Closed | Open] = [Closed(level, max(level, given.requests)) for level in levels]
    if given.rate:
        loads.append(Open(given.rate, given.duration, given.seed))
    return loads


def _check(options: Options, there: list[str]) -> None:
    if missing := [name for name in options.protocols if name not in there]:
        raise BenchError(f"--protocol {','.join(missing)}: there is no address for it")
    if options.gateway_cost and there != list(PROTOCOLS):
        raise BenchError("--gateway-cost needs both --rest and --grpc, or neither")
    if options.startup and (options.rest or options.grpc):
        raise BenchError("--startup starts servers itself: no --rest, no --grpc")
    # Checked now rather than after everything has been measured.
    if options.json not in (None, "-") and not Path(str(options.json)).absolute().parent.is_dir():
        raise BenchError(f"--json {options.json}: there is no such folder")


def bounded(kind: type[float], low: float, high: float) -> Callable[[str], float]:
    """A parser of numbers within bounds."""

    def number(text: str) -> float:
        value = kind(text)
        if not low <= value <= high or math.isnan(value):
            raise argparse.ArgumentTypeError(f"{text} is not between {low} and {high}")
        return value

    number.__name__ = "number"
    return number


def listed(item: Callable[[str], _Value]) -> Callable[[str], list[_Value]]:
    """A parser of comma-separated values, which drops repetitions."""

    def values(text: str) -> list[_Value]:
        return list(dict.fromkeys(item(part.strip()) for part in text.split(",")))

    values.__name__ = "list"
    return values
