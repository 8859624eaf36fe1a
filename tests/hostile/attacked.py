"""A server under attack, with a bystander beside the attack."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx
import psutil
from prometheus_client.parser import text_string_to_metric_families

from bench.processes import started_parts
from bench.server import Server, Target
from tests.hostile.bystander import KEY, MAX_CALL_S
from tests.hostile.figures import KINDS, Figures, Sample
from tests.plain_http import NO_CERTIFICATES

# Measurements of each kind that a phase has at least.
MIN_SAMPLES = 3
MAX_WAIT_S = 2 * MAX_CALL_S
MAX_GROWTH_BYTES = 300 << 20
POLL_S = 0.02
PEAK = re.compile(r"VmHWM:\s+(\d+) kB")


class Bystander:
    """The caller's process while the `with` lasts; see `tests.hostile.bystander`."""

    def __init__(self, target: Target, key: str) -> None:
        addresses = (target.rest, target.grpc, target.service_metrics, target.gateway_metrics)
        self._command = [sys.executable, "-m", "tests.hostile.bystander", *map(str, addresses)]
        self._environment = os.environ | {KEY: key}
        self.samples: list[Sample] = []

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._command,
            env=self._environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._end(0 if error else MAX_WAIT_S)

    def wait(self, count: int = MIN_SAMPLES) -> None:
        """Until there are so many more of each kind, or a failure."""
        since = time.perf_counter()
        wait_until(
            lambda: self._has_enough(since, count),
            "the bystander has enough answers",
            count * MAX_CALL_S,
        )

    def finish(self) -> None:
        """Until it has ended what it began."""
        self._end(MAX_WAIT_S)

    def _has_enough(self, since: float, count: int) -> bool:
        kinds = [sample.kind for sample in tuple(self.samples) if sample.end >= since]
        return "failure" in kinds or all(kinds.count(kind) >= count for kind in KINDS)

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                self.samples.append(Sample(*json.loads(line)))

    def _end(self, timeout: float) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reading.join()


@dataclass(frozen=True)
class Attacked:
    """A server, and the keys that it knows by their names."""

    server: Server
    target: Target
    keys: dict[str, str]

    @property
    def rest(self) -> str:
        """URL of the gateway."""
        return str(self.target.rest)

    @property
    def grpc(self) -> str:
        """Address of the service."""
        return str(self.target.grpc)

    @contextmanager
    def beside(
        self,
        *,
        max_growth_bytes: int = MAX_GROWTH_BYTES,
        alone_samples: int = MIN_SAMPLES,
        strict: bool = False,
    ) -> Iterator[Bystander]:
        """Runs a bystander alone, then beside the attack, which is the body of the `with`.

        Afterwards the bystander was not blocked (with `strict`, not slow) and had no failure, no
        part had grown by more than `max_growth_bytes`, the log has no traceback, and nothing that
        the attack began is left.
        """
        with Bystander(self.target, self.keys["bystander"]) as bystander:
            bystander.wait(alone_samples)
            began, memory = time.perf_counter(), Memory(self.server.pid)
            yield bystander
            bystander.wait()
            bystander.finish()
        alone = [sample for sample in bystander.samples if sample.end < began]
        beside = [sample for sample in bystander.samples if sample.end >= began]
        figures = Figures(alone, beside, memory.growth_bytes())
        sys.stdout.write(f"\n{figures}\n")
        assert not figures.failures(), figures.failures()
        late = figures.slow() if strict else figures.blocked()
        assert not late, late
        assert max(figures.growth_bytes.values()) <= max_growth_bytes, str(figures)
        assert "Traceback" not in self.server.log()
        self.check_accounts()

    def check_accounts(self) -> None:
        """Every request that was accepted ends, and slots and queue are empty."""
        wait_until(self._is_even, "all accepted requests have ended")

    def sums(self) -> dict[str, float]:
        """The service's metrics, each summed over its labels."""
        text = httpx.get(
            str(self.target.service_metrics),
            timeout=MAX_CALL_S,
            trust_env=False,
            verify=NO_CERTIFICATES,
        ).text
        sums: dict[str, float] = defaultdict(float)
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                sums[sample.name] += sample.value
        return sums

    def _is_even(self) -> bool:
        sums = self.sums()
        accepted, ended = sums["rapport_accepted_requests_total"], "rapport_ended_requests_total"
        idle = not (sums["rapport_slots_used"] or sums["rapport_waiting_requests"])
        return idle and accepted == sums[ended]


class Memory:
    """By how much the processes of a server grow from now on, each at its largest (Linux)."""

    def __init__(self, pid: int) -> None:
        self._parts = started_parts(pid)
        for process in chain(*self._parts.values()):
            Path(f"/proc/{process.pid}/clear_refs").write_text("5")  # the peak is what there is now
        self._before = self._peaks()

    def growth_bytes(self) -> dict[str, int]:
        """By the name of the part; processes that have ended do not count."""
        now = self._peaks()
        return {
            name: sum(now[pid] - self._before[pid] for pid in pids_of(part) if pid in now)
            for name, part in self._parts.items()
        }

    def _peaks(self) -> dict[int, int]:
        """The largest that each process has been, in bytes."""
        peaks = {}
        for pid in pids_of(chain(*self._parts.values())):
            with suppress(OSError):
                status = Path(f"/proc/{pid}/status").read_text()
                if found := PEAK.search(status):
                    peaks[pid] = 1024 * int(found[1])
        return peaks


def pids_of(processes: Iterable[psutil.Process]) -> list[int]:
    return [process.pid for process in processes]


def wait_until(condition: Callable[[], bool], what: str, limit: float = MAX_WAIT_S) -> None:
    """Raises AssertionError if the condition does not come true within `limit` seconds."""
    deadline = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < deadline, f"not within {limit:g} s: {what}"
        time.sleep(POLL_S)
