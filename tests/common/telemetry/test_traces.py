from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rapport.common.settings import Settings, load
from rapport.common.telemetry import traces
from rapport.common.telemetry.traces import TracesError, Untraced, tracing

ROOT = Path(__file__).parents[3]
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
GOOD = f"00-{TRACE}-{PARENT}-01"


def test_a_callers_trace_is_passed_on() -> None:
    """Without tracing the caller's headers go on as they came, and the trace is known."""
    headers = {"traceparent": GOOD, "tracestate": "a=b", "authorization": "Bearer key"}
    span = Untraced().begin("GET", headers, 0)
    assert span.trace_id == TRACE
    assert span.carrier == {"traceparent": GOOD, "tracestate": "a=b"}


@pytest.mark.parametrize(
    "given",
    [
        "",
        "x",
        GOOD[:-1],
        GOOD.upper(),
        f"ff-{TRACE}-{PARENT}-01",
        f"00-{'0' * 32}-{PARENT}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"{GOOD}\n",
    ],
)
def test_what_is_no_trace_has_no_id(given: str) -> None:
    """A header that breaks the standard is no trace, and no error."""
    assert Untraced().begin("GET", {"traceparent": given}, 0).trace_id == ""


def test_later_versions_are_understood() -> None:
    """A later version may say more behind what this one knows."""
    assert Untraced().begin("GET", {"traceparent": f"01-{GOOD[3:]}-more"}, 0).trace_id == TRACE


@given(st.text())
def test_no_header_is_an_error(given: str) -> None:
    """Whatever stands in the header, there is an id or there is none."""
    assert len(Untraced().begin("GET", {"traceparent": given}, 0).trace_id) in (0, 32)


def test_off_nothing_of_opentelemetry_is_imported() -> None:
    """Who asks for no traces pays for none, and needs no extra."""
    program = (
        "import sys, rapport.gateway.__main__, rapport.service.__main__\n"
        "from rapport.common.settings import Settings, load\n"
        "from rapport.common.telemetry.traces import Untraced, tracing\n"
        "with tracing('test', load(Settings, [])) as tracer:\n"
        "    assert isinstance(tracer, Untraced)\n"
        "assert not [name for name in sys.modules if name.startswith('opentelemetry')]\n"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)


@pytest.mark.parametrize("process", ["service", "gateway"])
def test_without_the_extra_the_start_fails(process: str, tmp_path: Path) -> None:
    """Traces that are asked for and cannot be had end the start with what to install."""
    program = (
        "import sys\n"
        "sys.modules['opentelemetry'] = None\n"
        f"from rapport.{process}.__main__ import main\n"
        "sys.exit(main())\n"
    )
    flags = ["--otel-endpoint", "http://127.0.0.1:1"]
    flags += ["--model-folder", str(tmp_path)] if process == "service" else []
    command = [sys.executable, "-c", program, *flags]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert ended.returncode == 1
    assert ended.stderr.endswith("traces need OpenTelemetry: pip install ./protos '.[otel]'\n")


@pytest.mark.parametrize("variable", traces.ENDPOINT_VARIABLES)
def test_standard_variables_turn_traces_on(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The OTEL_* variables are enough, and a protocol that is not spoken is refused."""
    monkeypatch.setenv(variable, "http://127.0.0.1:1")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    with pytest.raises(TracesError, match="not over grpc"), tracing("test", load(Settings, [])):
        pass
