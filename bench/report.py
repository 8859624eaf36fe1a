"""The figures of a run, and their JSON."""

from __future__ import annotations

import os
import platform
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import orjson

from bench.gateway_cost import Cost
from bench.scenario import Outcome
from bench.startup import Startup
from bench.workload import Workload

PACKAGES = ("rapport-server", "grpcio", "httpx")
DEFINITIONS = {
    "TTFT": "from sending the request to the first text (or the end, if no token had text)",
    "ITL": "(last - first token) / (n - 1) of each request, n being its completion tokens; "
    "the last token comes with the finish reason",
    "gap": "between two pieces of text of a stream, all requests together",
    "end to end": "from sending the request to the end of the stream",
    "output, prompt tokens/s": "tokens of requests that ended well over the whole duration",
    "per stream": "1 / ITL p50",
    "sent late": "open loop: from when a request was due until the bench sent it",
    "CPU": "user and system seconds, and their share of one core",
    "RSS": "resident memory, summed over a part's processes; peak of samples, and at the end",
}


@dataclass(frozen=True, slots=True)
class Machine:
    """The machine of the run. Only figures of the same machine can be compared."""

    system: str = field(default_factory=platform.platform)
    processor: str = field(default_factory=platform.machine)
    cores: int | None = field(default_factory=os.cpu_count)
    load_average: float = field(default_factory=lambda: os.getloadavg()[0])
    """Of the minute before the run; near 0 on an idle machine."""
    python: str = field(default_factory=platform.python_version)
    packages: dict[str, str] = field(
        default_factory=lambda: {name: version(name) for name in PACKAGES}
    )


@dataclass(slots=True)
class Report:
    """One run of the bench. Times are in seconds, memory is in bytes."""

    workload: Workload
    when: datetime = field(default_factory=lambda: datetime.now(UTC))
    command: list[str] = field(default_factory=lambda: sys.argv[1:])
    machine: Machine = field(default_factory=Machine)
    scenarios: list[Outcome] = field(default_factory=list)
    gateway_cost: list[Cost] = field(default_factory=list)
    startup: Startup | None = None
    definitions: dict[str, str] = field(default_factory=DEFINITIONS.copy)

    @property
    def failed(self) -> int:
        """The number of requests that failed."""
        return sum(out.summary.requests - out.summary.ok for out in self.scenarios)

    def to_json(self) -> bytes:
        plain = orjson.loads(orjson.dumps(self))
        for written, outcome in zip(plain["scenarios"], self.scenarios, strict=True):
            written["name"] = outcome.name
            written["summary"] |= {
                "output_rate": outcome.summary.output_rate,
                "stream_rate": outcome.summary.stream_rate,
                "prompt_rate": outcome.summary.prompt_rate,
            }
        return orjson.dumps(plain, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)

    def write_json(self, path: str) -> None:
        """Writes the figures to a file; `-` is standard output."""
        if path == "-":
            sys.stdout.buffer.write(self.to_json())
        else:
            Path(path).write_bytes(self.to_json())
