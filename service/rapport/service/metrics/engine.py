"""Metrics of the engine, read when they are scraped."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import accumulate

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from rapport.service.engine.engine import Engine
from rapport.service.engine.sampling.grammar_compiler import GrammarCompiler
from rapport.service.engine.stats import Histogram
from rapport.service.lifecycle import Lifecycle, ServedModel, State


class EngineCollector(Collector):
    """Reads the engine's plain numbers, which cost nothing between scrapes."""

    def __init__(self, lifecycle: Lifecycle) -> None:
        self._lifecycle = lifecycle

    def describe(self) -> Iterator[Metric]:
        """Names nothing: with names, the registry would collect before there is a model."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """The state, and the engine's metrics once the model is loaded."""
        state, served = self._lifecycle.state, self._lifecycle.loaded
        yield _gauge("up", "Whether requests are admitted.", state is State.SERVING)
        states = GaugeMetricFamily(
            "rapport_state", "1 for the current state, 0 for the others.", labels=["state"]
        )
        for each in State:
            states.add_metric([each.name.lower()], each is state)
        yield states
        yield _counter(
            "reset_requests",
            "RPCs that were reset before they began, of which there is no other trace.",
            self._lifecycle.in_flight.resets,
        )
        if served is not None:
            yield _model(served)
            yield from _work(served.engine)
            yield from _occupancy(served.engine)
            yield from _prefix_cache(served.engine)
            yield from _grammars(served.grammars)


def _model(served: ServedModel) -> Metric:
    labels = {
        "model": served.model,
        "precision": served.engine.spec.precision,
        "provider": served.engine.provider,
    }
    info = GaugeMetricFamily("rapport_model_info", "The served model; always 1.", labels=[*labels])
    info.add_metric([*labels.values()], 1)
    return info


def _work(engine: Engine) -> Iterator[Metric]:
    stats, requests = engine.stats, engine.counters
    yield _counter(
        "accepted_requests", "Requests accepted into the waiting queue.", requests.accepted
    )
    ended = {
        "finished": requests.finished,
        "cancelled": requests.cancelled,
        "failed": requests.failed,
    }
    yield _counters("ended_requests", "Accepted requests that have ended.", "outcome", ended)
    yield _counter(
        "prompt_tokens", "Prompt tokens of requests that were assigned a slot.", stats.prompt_tokens
    )
    yield _counter(
        "cached_prompt_tokens", "Prompt tokens found in the prefix cache.", stats.cached_tokens
    )
    yield _counter("completion_tokens", "Generated tokens.", stats.completion_tokens)
    steps = {"decode": stats.decode, "prefill": stats.prefill, "verify": stats.verify}
    yield _histograms(
        "step_seconds", "Duration of model runs; decode includes sampling.", "kind", steps
    )
    yield _histogram("decode_rows", "Batch size of decode steps.", stats.rows)
    yield _counter(
        "failed_steps", "Steps that failed in the runtime or in sampling.", stats.failed_steps
    )
    drafts = {"grammar": stats.forced, "text": stats.guessed}
    drafted = {source: tokens.drafted for source, tokens in drafts.items()}
    accepted = {source: tokens.accepted for source, tokens in drafts.items()}
    yield _counters("draft_tokens", "Tokens drafted for speculative decoding.", "source", drafted)
    yield _counters(
        "accepted_draft_tokens", "Drafted tokens that were accepted.", "source", accepted
    )
    yield _histogram("mask_seconds", "Time to compute and apply one grammar mask.", stats.mask)


def _occupancy(engine: Engine) -> Iterator[Metric]:
    now = engine.occupancy()
    yield _gauge("slots", "Slots for running sequences.", now.slots)
    yield _gauge("slots_used", "Slots in use.", now.slots_used)
    yield _gauge("waiting_requests", "Requests in the waiting queue.", now.waiting_requests)
    yield _gauge(
        "waiting_prompt_tokens",
        "Prompt tokens of the requests in the waiting queue.",
        now.waiting_tokens,
    )
    yield _gauge("kv_tokens", "Tokens whose keys and values the slots hold.", now.kv_tokens)
    yield _gauge(
        "kv_reserved_tokens",
        "Tokens that the running sequences may grow to.",
        now.kv_reserved_tokens,
    )
    yield _gauge(
        "kv_budget_tokens", "Tokens that all sequences together may grow to.", now.kv_budget_tokens
    )
    yield _gauge(
        "kv_usage_ratio",
        "Share of rapport_kv_budget_tokens that is reserved, from 0 to 1.",
        now.kv_reserved_tokens / now.kv_budget_tokens if now.kv_budget_tokens else 0,
    )
    yield _gauge("kv_bytes", "Memory of rapport_kv_tokens, in bytes.", now.kv_bytes)
    yield _gauge(
        "kv_budget_bytes", "Memory of rapport_kv_budget_tokens, in bytes.", now.kv_budget_bytes
    )


def _prefix_cache(engine: Engine) -> Iterator[Metric]:
    cache = engine.prefix_stats
    yield _counter("prefix_hits", "Prompts with a part in the prefix cache.", cache.hits)
    yield _counter("prefix_misses", "Prompts with no part in the prefix cache.", cache.misses)
    yield _counter("prefix_evictions", "Blocks evicted from the prefix cache.", cache.evictions)
    yield _gauge("prefix_blocks", "Blocks in the prefix cache.", cache.blocks)
    yield _gauge("prefix_bytes", "Memory of the prefix cache, in bytes.", cache.bytes)
    yield _gauge(
        "prefix_budget_bytes", "Maximum memory of the prefix cache, in bytes.", cache.budget_bytes
    )


def _grammars(grammars: GrammarCompiler) -> Iterator[Metric]:
    yield _histogram(
        "grammar_compile_seconds",
        "Time to compile a grammar, failures included.",
        grammars.compile_times,
    )
    yield _counter("refused_grammars", "Grammars that could not be compiled.", grammars.refused)
    yield _counter(
        "recalled_grammars", "Grammars found in the cache of compiled grammars.", grammars.recalled
    )


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"rapport_{name}", text, value)


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(f"rapport_{name}", text, value)


def _counters(name: str, text: str, label: str, values: Mapping[str, float]) -> Metric:
    family = CounterMetricFamily(f"rapport_{name}", text, labels=[label])
    for member, value in values.items():
        family.add_metric([member], value)
    return family


def _histogram(name: str, text: str, tally: Histogram) -> Metric:
    family = HistogramMetricFamily(f"rapport_{name}", text)
    _add_histogram(family, [], tally)
    return family


def _histograms(name: str, text: str, label: str, tallies: Mapping[str, Histogram]) -> Metric:
    family = HistogramMetricFamily(f"rapport_{name}", text, labels=[label])
    for member, tally in tallies.items():
        _add_histogram(family, [member], tally)
    return family


def _add_histogram(family: HistogramMetricFamily, labels: list[str], tally: Histogram) -> None:
    bounds = [*(str(float(bound)) for bound in tally.bounds), "+Inf"]
    # Copied first: the engine goes on counting while they are summed.
    totals = accumulate(tuple(tally.counts))
    family.add_metric(labels, list(zip(bounds, totals, strict=True)), tally.sum)
