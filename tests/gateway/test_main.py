"""`python -m gateway` as a process: start, stop, and what it says."""

from __future__ import annotations

import asyncio
import re
import signal
import socket
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from rapport.common.addresses import local_addresses
from tests.gateway.conftest import until_learned
from tests.gateway.library import Library, serving
from tests.plain_http import NO_CERTIFICATES

ROOT = Path(__file__).parents[2]


async def start(*flags: str) -> Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "rapport.gateway", "--gateway-metrics-port", "0"),
        *flags,
        cwd=ROOT,
        stdout=PIPE,
        stderr=PIPE,
    )


@asynccontextmanager
async def running(*flags: str) -> AsyncIterator[tuple[Process, str]]:
    """A process and the URL that it says it serves."""
    process = await start("--http-port", "0", *flags)
    try:
        assert process.stderr is not None
        lines = [(await asyncio.wait_for(process.stderr.readline(), 20)).decode() for _ in range(2)]
        assert "metrics on http://127.0.0.1:" in lines[0]
        match = re.search(r"INFO REST on (http://127\.0\.0\.1:\d+)$", lines[1])
        assert match, lines
        yield process, match[1]
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def finished(process: Process) -> tuple[int | None, str]:
    _, stderr = await asyncio.wait_for(process.communicate(), 10)
    return process.returncode, stderr.decode()


async def test_running_streams_may_finish(library: Library) -> None:
    """After SIGTERM a running stream ends in its time, then the process exits with 0."""
    body = {"stream": True, "count": 10, "pause_ms": 100}
    async with (
        serving(library) as port,
        running("--upstream", f"127.0.0.1:{port}") as (process, url),
        httpx.AsyncClient(base_url=url, timeout=10, verify=NO_CERTIFICATES) as client,
    ):
        await until_learned(client)
        asked = asyncio.create_task(client.post("/v1/tell", json=body))
        await library.started.wait()
        process.send_signal(signal.SIGTERM)
        assert (await asked).text.endswith("data: [DONE]\n\n")
        status, log = await finished(process)
        assert (status, "Traceback" in log) == (0, False)
        assert log.count("REST on") == 0


async def test_streams_are_cancelled_after_the_grace(library: Library) -> None:
    """What runs on after the grace is cancelled; the exit is as clean."""
    body = {"stream": True, "count": 3, "hang_after": 1}
    async with (
        serving(library) as port,
        running("--upstream", f"127.0.0.1:{port}", "--shutdown-grace", "1") as (process, url),
        httpx.AsyncClient(base_url=url, timeout=10, verify=NO_CERTIFICATES) as client,
    ):
        await until_learned(client)
        asked = asyncio.create_task(client.post("/v1/tell", json=body))
        await library.started.wait()
        process.send_signal(signal.SIGINT)
        failure = (await asyncio.gather(asked, return_exceptions=True))[0]
        assert isinstance(failure, httpx.RemoteProtocolError)
        await asyncio.wait_for(library.ended.wait(), 5)
        status, log = await finished(process)
        assert (status, "Traceback" in log) == (0, False)


async def test_second_signal_ends_at_once(library: Library) -> None:
    """A second signal does not wait for the grace, and the exit status says so."""
    body = {"stream": True, "count": 3, "hang_after": 1}
    async with (
        serving(library) as port,
        running("--upstream", f"127.0.0.1:{port}", "--shutdown-grace", "60") as (process, url),
        httpx.AsyncClient(base_url=url, timeout=10, verify=NO_CERTIFICATES) as client,
    ):
        await until_learned(client)
        asked = asyncio.create_task(client.post("/v1/tell", json=body))
        await library.started.wait()
        for _ in range(2):
            process.send_signal(signal.SIGTERM)
            await asyncio.sleep(0.3)
        status, log = await finished(process)
        assert (status, "Traceback" in log) == (128 + signal.SIGTERM, False), log
        await asyncio.gather(asked, return_exceptions=True)


async def test_failed_stream_is_no_fault_in_the_log(library: Library) -> None:
    """A stream that the service fails is aborted without an error of the server's in the log."""
    body = {"stream": True, "count": 3, "fail_after": 1, "code": 13, "message": "broke"}
    async with (
        serving(library) as port,
        running("--upstream", f"127.0.0.1:{port}") as (process, url),
        httpx.AsyncClient(base_url=url, timeout=10, verify=NO_CERTIFICATES) as client,
    ):
        await until_learned(client)
        asked = client.post("/v1/tell", json=body)
        failure = (await asyncio.gather(asked, return_exceptions=True))[0]
        assert isinstance(failure, httpx.RemoteProtocolError)
        process.send_signal(signal.SIGTERM)
        status, log = await finished(process)
        assert (status, "ERROR" in log.replace("is not served", "")) == (0, "not served" in log)


async def test_address_in_use() -> None:
    """A port that is taken is reported in one line, with exit status 1."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        status, log = await finished(await start("--http-port", str(port)))
    expected = f" ERROR cannot listen on 127.0.0.1:{port}: Address already in use\n"
    assert (status, log.count("\n"), log.endswith(expected)) == (1, 1, True)


@pytest.mark.skipif("::1" not in local_addresses("localhost"), reason="this machine has no IPv6")
async def test_all_addresses_of_a_name() -> None:
    """A name is served in both families, and each link can be followed."""
    process = await start("--http-port", "0", "--http-host", "localhost")
    assert process.stderr is not None
    lines = [(await asyncio.wait_for(process.stderr.readline(), 20)).decode() for _ in range(2)]
    match = re.search(r"REST on (http://127\.0\.0\.1:\d+), (http://\[::1\]:\d+)$", lines[1])
    assert match, lines
    async with httpx.AsyncClient(verify=NO_CERTIFICATES) as client:
        for url in match.groups():
            assert (await client.get(f"{url}/health/live")).status_code == 200
    process.send_signal(signal.SIGTERM)
    assert (await finished(process))[0] == 0


async def test_metrics_address_in_use() -> None:
    """A port of the metrics that is taken is reported, and REST is served without them."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process = await start("--http-port", "0", "--gateway-metrics-port", str(port))
        assert process.stderr is not None
        lines = [(await asyncio.wait_for(process.stderr.readline(), 20)).decode() for _ in range(2)]
        process.send_signal(signal.SIGTERM)
        status, _ = await finished(process)
    assert f"no metrics are served, 127.0.0.1:{port} cannot be listened on" in lines[0]
    assert "REST on" in lines[1]
    assert status == 0


async def test_bad_settings() -> None:
    """Settings that cannot be used are reported in one line, with exit status 2."""
    status, log = await finished(await start("--http-host", "0.0.0.0"))  # noqa: S104
    assert status == 2
    assert log.count("\n") == 1
    assert "allow_public_bind" in log


async def test_bad_descriptor_set() -> None:
    """A descriptor set that is missing is reported in one line, with exit status 1."""
    status, log = await finished(await start("--descriptor-set", "/missing"))
    assert (status, log.count("\n")) == (1, 1)


@pytest.mark.parametrize(
    ("flags", "status", "message"),
    [
        (["--http-tls-cert", "a"], 2, "http_tls_key is needed along with http_tls_cert"),
        (["--upstream-key", "a"], 2, "upstream_cert is needed along with upstream_key"),
        (["--http-tls-cert", "a", "--http-tls-key", "b"], 1, "a: No such file or directory"),
        (["--upstream-ca", "a"], 1, "a: No such file or directory"),
    ],
)
async def test_bad_certificates(flags: list[str], status: int, message: str) -> None:
    """Certificates that are missing or half set are reported in one line."""
    ended, log = await finished(await start(*flags))
    assert (ended, log.count("\n")) == (status, 1)
    assert log.endswith(f"{message}\n")
