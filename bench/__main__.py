"""Loads a server on this machine and reports latency, throughput, CPU and memory."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import uvloop

from bench.errors import BenchError
from bench.gateway_cost import gateway_cost
from bench.options import Options, parse
from bench.progress import show_progress
from bench.report import Report
from bench.scenario import Session
from bench.server import Target, end_on_sigterm, rapport
from bench.startup import measure_startup
from bench.table import console, show

STARTS = 5
PAIRS = 30


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the bench. Returns 0 if no request failed."""
    options = parse(sys.argv[1:] if arguments is None else arguments)
    end_on_sigterm()
    try:
        report = run(options)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    show(report, console(stderr=options.json == "-"))
    if options.json:
        report.write_json(options.json)
    return 1 if report.failed else 0


def run(options: Options) -> Report:
    """Measures everything that the options ask for."""
    report = Report(options.workload)
    if options.startup:
        report.startup = measure_startup(options.rounds or STARTS)
    if options.loads or options.gateway_cost:
        with serving(options) as target:
            uvloop.run(measure(options, target, report))
    return report


@contextmanager
def serving(options: Options) -> Iterator[Target]:
    """The server that the options name, or one that is started for the run."""
    if options.rest or options.grpc:
        yield Target(options.rest, options.grpc)
        return
    show_progress("starting rapport serve (the first time, the model is fetched: minutes)")
    with rapport() as (_, target):
        yield target


async def measure(options: Options, target: Target, report: Report) -> None:
    """Sends all requests, and fills the report."""
    key = os.environ.get("RAPPORT_API_KEYS", "").split(",")[0].strip() or None
    async with Session(target, options.workload, options.limits, key) as session:
        warm = list(session.clients) if options.gateway_cost else options.protocols
        await session.warm_up(warm, options.warmup)
        for load in options.loads:
            for protocol in options.protocols:
                report.scenarios.append(await session.measure(protocol, load))
        if options.gateway_cost:
            report.gateway_cost = await gateway_cost(session, options.rounds or PAIRS)


if __name__ == "__main__":
    sys.exit(main())
