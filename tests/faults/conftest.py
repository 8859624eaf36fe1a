"""`rapport serve` with faults on purpose, and the account that it gives in the end."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import httpx
import pytest

from bench.server import Server, Target, rapport
from tests.contract.callers import Grpc, Rest
from tests.plain_http import NO_CERTIFICATES

ACCOUNT = re.compile(
    r"requests: (\d+) accepted, (\d+) finished, (\d+) cancelled, (\d+) failed; "
    r"slots: (\d+) taken, (\d+) released"
)


@dataclass(frozen=True)
class Serving:
    """A server with faults and two who call it."""

    server: Server
    target: Target
    rest: Rest
    rpc: Grpc

    def account(self) -> tuple[int, int, int, int]:
        """Requests accepted, finished, cancelled and failed, once it has ended: they are even."""
        found = ACCOUNT.search(self.server.last_words)
        assert found is not None, self.server.last_words
        accepted, finished, cancelled, failed, taken, released = map(int, found.groups())
        assert accepted == finished + cancelled + failed
        assert taken == released
        return accepted, finished, cancelled, failed


Serve = Callable[..., AbstractContextManager[Serving]]


@pytest.fixture(scope="session")
def serve(tiny_folder: Path) -> Serve:
    """Starts a server whose faults are those of a list. It must end cleanly."""

    @contextmanager
    def started(faults: str, **settings: object) -> Iterator[Serving]:
        chosen = {"model_folder": tiny_folder, "drafts": False, "inject_faults": True} | settings
        with (
            rapport(faults=faults, **chosen) as (server, target),
            httpx.Client(
                base_url=str(target.rest), timeout=60, trust_env=False, verify=NO_CERTIFICATES
            ) as http,
            grpc.insecure_channel(str(target.grpc)) as channel,
        ):
            yield Serving(server, target, Rest(http), Grpc(channel))

    return started
