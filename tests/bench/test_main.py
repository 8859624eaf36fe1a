from __future__ import annotations

import asyncio
import signal
import sys

import orjson
import pytest

from tests.bench.conftest import Fake


async def bench(*arguments: str) -> tuple[int | None, bytes, str]:
    """Runs the program; its status, standard output and standard error."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    return process.returncode, out, err.decode()


def target(fake: Fake) -> tuple[str, ...]:
    return "--rest", fake.rest, "--grpc", fake.grpc, "--max-tokens", "4", "--warmup", "1"


async def test_closed_and_open_loop_over_both_protocols(fake: Fake) -> None:
    """Every request of every load is sent and accounted for, over REST and gRPC alike."""
    loads = ("--concurrency", "1,3", "--requests", "6", "--rate", "40", "--duration", "0.5")
    status, out, table = await bench(*target(fake), *loads, "--json", "-")
    scenarios = orjson.loads(out)["scenarios"]
    assert status == 0, table
    assert [scenario["name"] for scenario in scenarios] == [
        *("rest x1", "grpc x1", "rest x3", "grpc x3", "rest 40/s", "grpc 40/s")
    ]
    for scenario in scenarios[:4]:
        summary = scenario["summary"]
        assert (summary["requests"], summary["ok"], summary["errors"]) == (6, 6, {})
        assert (summary["prompt_tokens"], summary["completion_tokens"]) == (240, 24)
        assert 0.001 < summary["itl"]["p50"] < summary["latency"]["p50"]
        assert 0.001 < summary["ttft"]["p50"] < summary["latency"]["p50"]
        assert summary["output_rate"] > 0
        assert scenario["resources"]["bench"]["rss_peak"] > 2**20
    rest, rpc = (scenario["summary"]["requests"] for scenario in scenarios[4:])
    assert rest == rpc > 0
    assert "TTFT p99 (ms)" in table
    assert "(last - first token) / (n - 1)" in table


async def test_refusals_are_counted_by_what_they_are(fake: Fake) -> None:
    """A server that refuses is a result, not a crash: failures are counted and the status is 1."""
    load = ("--temperature", "2", "--concurrency", "2", "--requests", "4")
    status, out, table = await bench(*target(fake), *load, "--json", "-")
    rest, rpc = (scenario["summary"] for scenario in orjson.loads(out)["scenarios"])
    assert status == 1
    assert (rest["ok"], rest["errors"]) == (0, {"HTTP 429": 4})
    assert (rpc["ok"], rpc["errors"]) == (0, {"RESOURCE_EXHAUSTED": 4})
    assert "4 times HTTP 429" in table


async def test_gateway_cost_compares_pairs(fake: Fake) -> None:
    """The gateway's cost is reported for the first token and for the tokens after it."""
    cost = ("--gateway-cost", "--rounds", "3", "--json", "-")
    status, out, table = await bench(*target(fake), *cost)
    report = orjson.loads(out)
    assert status == 0, table
    assert report["scenarios"] == []
    figures = [cost["figure"] for cost in report["gateway_cost"]]
    assert figures == ["TTFT, 1 out", "TTFT, 32 out", "ITL, 32 out"]
    assert all(cost["pairs"] == 3 for cost in report["gateway_cost"])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_ends_it_at_once(fake: Fake, number: signal.Signals) -> None:
    """Ctrl-C and SIGTERM end a run in mid-load, also a background job that ignores Ctrl-C."""
    load = ("--concurrency", "2", "--requests", "100000", "--time-limit", "60")
    # A shell ignores Ctrl-C for it: to run Python between fork and exec may crash beside gRPC.
    process = await asyncio.create_subprocess_exec(
        *("sh", "-c", 'trap "" INT; exec "$@"', "sh"),
        *(sys.executable, "-m", "bench", *target(fake), *load),
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    while b"rest x2" not in (line := await process.stderr.readline()):
        assert line  # libraries may have said something before
    process.send_signal(number)
    assert await asyncio.wait_for(process.wait(), 10) == 130


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--rest", "http://93.184.216.34:80"), "only loopback addresses"),
        (("--grpc", "example.com:50051"), "only loopback addresses"),
        (("--rest", "127.0.0.1"), "not an address with a host and a port"),
        (("--rest", "http://127.0.0.1:1", "--gateway-cost"), "needs both"),
        (("--rest", "http://127.0.0.1:1", "--protocol", "grpc"), "no address for it"),
        (("--requests", "0"), "not between"),
        (("--json", "/nowhere/figures.json"), "no such folder"),
    ],
)
async def test_wrong_arguments_are_refused(arguments: tuple[str, ...], complaint: str) -> None:
    """What cannot be run is refused in one line before anything is sent."""
    status, _, err = await bench(*arguments)
    assert status == 2
    assert complaint in err.splitlines()[-1]
