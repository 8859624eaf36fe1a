"""One frame of `rapport top`: what happened in an interval, as a table."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import ByteSize
from rich.table import Table
from rich.text import Text

from rapport.cli.scrape import Interval
from rapport.common.telemetry.formatters import printable

BAR_CHARS = 24
QUANTILES = (0.5, 0.9, 0.99)


def frame(service: Interval, gateway: Interval | None) -> Table:
    """What the service did and holds, and the gateway if it is there.

    Labels of metrics are shown as they are, without commands to the terminal or markup.
    """
    # Without columns, the title of a service that has no rows yet would not be shown.
    table = Table.grid("", "", padding=(0, 2))
    table.title, table.title_justify = Text(printable(heading(service)), "table.title"), "left"
    for name, *cells in (*service_rows(service), *gateway_rows(gateway)):
        table.add_row(Text(name, style="bold"), Text(printable("   ".join(cells))))
    return table


def heading(service: Interval) -> str:
    now = service.now
    model, precision, provider = (
        now.label("model_info", label) or "?" for label in ("model", "precision", "provider")
    )
    version, state = now.label("build_info", "version"), now.label("state", "state")
    return f"rapport {version}: {state}, {model} ({precision}) on {provider}"


def service_rows(service: Interval) -> Iterator[tuple[str, ...]]:
    """The rows: a name and its cells."""
    now = service.now
    if not now.label("model_info", "model"):
        return
    yield (
        "requests",
        f"{service.rate('accepted_requests_total'):.1f}/s",
        f"refused {service.rate('refused_requests_total'):.1f}/s",
        f"failed {service.rate('ended_requests_total', outcome='failed'):.1f}/s",
    )
    cached = service.share("cached_prompt_tokens_total", "prompt_tokens_total")
    yield (
        "tokens",
        f"out {service.rate('completion_tokens_total'):.0f}/s",
        f"prompt {service.rate('prompt_tokens_total'):.0f}/s",
        f"cached {percent(cached)}",
    )
    yield "TTFT", *quantiles(service, "time_to_first_token_seconds")
    yield "ITL", *quantiles(service, "inter_token_latency_seconds")
    yield "step", *quantiles(service, "step_seconds", kind="decode"), rows(service)
    used, slots = now.total("slots_used"), now.total("slots")
    yield "slots", bar(used, slots), f"{used:.0f} of {slots:.0f}"
    yield (
        "waiting",
        f"{now.total('waiting_requests'):.0f}",
        f"{now.total('waiting_prompt_tokens'):.0f} prompt tokens",
    )
    yield from memory_rows(service)


def memory_rows(service: Interval) -> Iterator[tuple[str, ...]]:
    now = service.now
    for name, metric in (("KV", "kv"), ("prefixes", "prefix")):
        held, budget = now.total(f"{metric}_bytes"), now.total(f"{metric}_budget_bytes")
        yield name, bar(held, budget), f"{size(held)} of {size(budget)}"
    hits = service.gain("prefix_hits_total")
    lookups = hits + service.gain("prefix_misses_total")
    yield "prefix hits", percent(hits / lookups if lookups else None)
    accepted = service.share("accepted_draft_tokens_total", "draft_tokens_total")
    yield "drafts", f"{service.rate('draft_tokens_total'):.0f}/s", f"accepted {percent(accepted)}"
    yield "memory", size(now.total("process_resident_memory_bytes"))


def gateway_rows(gateway: Interval | None) -> Iterator[tuple[str, ...]]:
    if gateway is None:
        return
    yield (
        "gateway",
        f"{gateway.rate('gateway_requests_total'):.1f}/s",
        f"{gateway.now.total('gateway_requests_in_flight'):.0f} in flight",
        f"left {gateway.rate('gateway_disconnects_total'):.1f}/s",
        f"service {gateway.now.label('gateway_upstream_state', 'state')}",
        size(gateway.now.total("process_resident_memory_bytes")),
    )


def quantiles(interval: Interval, name: str, **labels: str) -> list[str]:
    return [f"p{q * 100:g} {seconds(interval.quantile(name, q, **labels))}" for q in QUANTILES]


def rows(service: Interval) -> str:
    mean = service.mean("decode_rows")
    return "idle" if mean is None else f"{mean:.1f} rows"


def seconds(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.2f} s" if value >= 1 else f"{value * 1000:.1f} ms"


def percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.0%}"


def size(value: float) -> str:
    return ByteSize(value).human_readable()


def bar(part: float, whole: float) -> str:
    filled = round(BAR_CHARS * min(part / whole, 1)) if whole else 0
    return "█" * filled + "░" * (BAR_CHARS - filled)
