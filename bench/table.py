"""Prints a report as tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from rich.console import Console
from rich.table import Table

from bench.load import Open
from bench.measure import Percentiles
from bench.report import Report
from bench.scenario import Outcome

# More columns do not fit a terminal.
COLUMNS = 4
# The width to assume if standard output is no terminal.
WIDTH = 100
MEBI = 2**20


def show(report: Report, console: Console) -> None:
    """Prints all figures of the report, and the definitions of their names."""
    for start in range(0, len(report.scenarios), COLUMNS):
        console.print(_scenario_table(report.scenarios[start : start + COLUMNS]))
    if report.gateway_cost:
        console.print(_cost_table(report))
    if report.startup:
        rounds = ", ".join(f"{seconds:.2f}" for seconds in report.startup.rounds)
        console.print(f"Start until healthy: median {report.startup.median:.2f} s of {rounds}")
    for note in _notes(report):
        console.print(f"! {note}", style="bold")
    console.print(_circumstances(report), style="dim")
    if report.scenarios:
        for name, meaning in report.definitions.items():
            console.print(f"{name}: {meaning}", style="dim")


def console(*, stderr: bool) -> Console:
    """A console that is wide enough for the tables, even if it is no terminal."""
    output = Console(stderr=stderr, highlight=False, markup=False)
    if not output.is_terminal:
        output.width = WIDTH
    return output


def _scenario_table(outcomes: Sequence[Outcome]) -> Table:
    table = Table("")
    for outcome in outcomes:
        table.add_column(outcome.name, justify="right", no_wrap=True)

    def add(name: str, cell: Callable[[Outcome], str], *, last: bool = False) -> None:
        table.add_row(name, *map(cell, outcomes), end_section=last)

    add("requests ok / failed", _counts)
    add("tokens in, out of each", _tokens)
    add("duration (s)", lambda out: f"{out.summary.duration:.1f}", last=True)
    _add_latencies(add)
    if any(isinstance(outcome.load, Open) for outcome in outcomes):
        add("sent late p99 (ms)", partial(_latency, figure="late", rank="p99"), last=True)
    add("output tokens/s", lambda out: _plain(out.summary.output_rate))
    add("  per stream", lambda out: _plain(out.summary.stream_rate))
    add("prompt tokens/s", lambda out: _plain(out.summary.prompt_rate), last=True)
    for part in dict.fromkeys(part for outcome in outcomes for part in outcome.resources):
        add(f"CPU {part} (s, of a core)", partial(_cpu, part=part))
    table.add_section()
    for part in dict.fromkeys(part for outcome in outcomes for part in outcome.resources):
        add(f"RSS {part} peak, end (MiB)", partial(_memory, part=part))
    return table


def _add_latencies(add: Callable[..., None]) -> None:
    for name, figure in (("TTFT", "ttft"), ("ITL", "itl"), ("end to end", "latency")):
        for rank in ("p50", "p95", "p99"):
            add(
                f"{name} {rank} (ms)",
                partial(_latency, figure=figure, rank=rank),
                last=rank == "p99" and figure != "itl",
            )
        if figure == "itl":
            add("gap p99 (ms)", partial(_latency, figure="gap", rank="p99"), last=True)


def _cost_table(report: Report) -> Table:
    table = Table("gateway over gRPC (ms)", title_justify="left")
    for name in ("REST p50", "gRPC p50", "added p50", "added p25 to p75", "pairs"):
        table.add_column(name, justify="right")
    for cost in report.gateway_cost:
        spread = f"{cost.added_p25 * 1e3:.2f} to {cost.added_p75 * 1e3:.2f}"
        medians = [f"{value * 1e3:.2f}" for value in (cost.rest, cost.grpc, cost.added)]
        table.add_row(cost.figure, *medians, spread, str(cost.pairs))
    return table


def _circumstances(report: Report) -> str:
    machine, work = report.machine, report.workload
    return (
        f"{work.model}, temperature {work.temperature:g}, seed {work.seed}; {machine.cores} cores "
        f"({machine.processor}), load average before the run {machine.load_average:.2f}"
    )


def _notes(report: Report) -> list[str]:
    """What a reader should know before trusting the figures."""
    notes = []
    for outcome in report.scenarios:
        summary = outcome.summary
        notes += [f"{outcome.name}: {many} times {what}" for what, many in summary.errors.items()]
        if outcome.cut_short:
            notes.append(f"{outcome.name}: the time limit came before all requests were sent")
        if summary.cached_tokens:
            share = summary.cached_tokens / summary.prompt_tokens
            notes.append(f"{outcome.name}: {share:.0%} of the prompt tokens came from a cache")
        if set(outcome.resources) == {"bench"}:
            notes.append(f"{outcome.name}: the server's processes cannot be seen from here")
    return notes


def _counts(outcome: Outcome) -> str:
    return f"{outcome.summary.ok} / {outcome.summary.requests - outcome.summary.ok}"


def _tokens(outcome: Outcome) -> str:
    summary = outcome.summary
    each = max(summary.ok, 1)
    return f"{summary.prompt_tokens / each:.0f}  {summary.completion_tokens / each:.0f}"


def _latency(outcome: Outcome, figure: str, rank: str) -> str:
    return _ms(getattr(outcome.summary, figure), rank)


def _ms(percentiles: Percentiles | None, rank: str) -> str:
    return "-" if percentiles is None else f"{getattr(percentiles, rank) * 1e3:.1f}"


def _plain(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _cpu(outcome: Outcome, part: str) -> str:
    used = outcome.resources.get(part)
    return f"{used.cpu_seconds:.1f}  {used.cores:4.0%}" if used else "-"


def _memory(outcome: Outcome, part: str) -> str:
    used = outcome.resources.get(part)
    return f"{used.rss_peak / MEBI:.0f}  {used.rss_end / MEBI:.0f}" if used else "-"
