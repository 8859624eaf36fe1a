"""What the engine does and holds, read when somebody asks."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from rapport.service.engine.engine import Engine
from rapport.service.engine.sampling.constraint import GrammarCompiler
from rapport.service.lifecycle import Lifecycle, Served, State
from rapport.service.metrics.families import counter, counters, gauge, histogram, histograms


class EngineCollector(Collector):
    """Reads the engine's plain numbers: they cost nothing between scrapes."""

    def __init__(self, lifecycle: Lifecycle) -> None:
        self._lifecycle = lifecycle

    def describe(self) -> Iterator[Metric]:
        """No names: they would be collected before there is a model."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """What can be told: of a model that is loading, only that."""
        state, served = self._lifecycle.state, self._lifecycle.loaded
        yield gauge("up", "Whether requests are taken.", state is State.SERVING)
        states = GaugeMetricFamily("rapport_state", "1 for the one that is so.", labels=["state"])
        for each in State:
            states.add_metric([each.name.lower()], each is state)
        yield states
        if served is not None:
            yield _model(served)
            yield from _work(served.engine)
            yield from _room(served.engine)
            yield from _prefixes(served.engine)
            yield from _grammars(served.grammars)


def _model(served: Served) -> Metric:
    labels = {
        "model": served.model,
        "precision": served.engine.spec.precision,
        "provider": served.engine.provider,
    }
    info = GaugeMetricFamily("rapport_model_info", "What is served; always 1.", labels=[*labels])
    info.add_metric([*labels.values()], 1)
    return info


def _work(engine: Engine) -> Iterator[Metric]:
    stats, requests = engine.stats, engine.counters
    yield counter("accepted_requests", "Requests that got in line.", requests.accepted)
    ended = {
        "finished": requests.finished,
        "cancelled": requests.cancelled,
        "failed": requests.failed,
    }
    yield counters("ended_requests", "Of those, by how they ended.", "outcome", ended)
    yield counter("prompt_tokens", "Of prompts that got a slot.", stats.prompt_tokens)
    yield counter("cached_prompt_tokens", "Not computed again.", stats.cached_tokens)
    yield counter("completion_tokens", "Generated.", stats.completion_tokens)
    steps = {"decode": stats.decode, "prefill": stats.prefill, "verify": stats.verify}
    yield histograms("step_seconds", "Runs of the model and, decoding, draws.", "kind", steps)
    yield histogram("decode_rows", "Sequences in a decode step.", stats.rows)
    yield counter("failed_steps", "Steps that the runtime failed in.", stats.failed_steps)
    drafts = {"grammar": stats.forced, "text": stats.guessed}
    drafted = {source: tokens.drafted for source, tokens in drafts.items()}
    accepted = {source: tokens.accepted for source, tokens in drafts.items()}
    yield counters("draft_tokens", "Tokens guessed at.", "source", drafted)
    yield counters("accepted_draft_tokens", "Guessed right.", "source", accepted)
    yield histogram("mask_seconds", "Masks of grammars, for a token each.", stats.mask)


def _room(engine: Engine) -> Iterator[Metric]:
    now = engine.occupancy()
    yield gauge("slots", "Sequences that may run at once.", now.slots)
    yield gauge("slots_used", "Sequences that run.", now.slots_used)
    yield gauge("waiting_requests", "Requests in line.", now.waiting_requests)
    yield gauge("waiting_prompt_tokens", "Tokens of their prompts.", now.waiting_tokens)
    yield gauge("kv_tokens", "Tokens whose KV slots hold.", now.kv_tokens)
    yield gauge("kv_reserved_tokens", "What running ones may grow to.", now.kv_reserved_tokens)
    yield gauge("kv_budget_tokens", "What all may grow to.", now.kv_budget_tokens)
    yield gauge("kv_bytes", "Memory of kv_tokens.", now.kv_bytes)
    yield gauge("kv_budget_bytes", "Memory of kv_budget_tokens.", now.kv_budget_bytes)


def _prefixes(engine: Engine) -> Iterator[Metric]:
    kept = engine.prefix_stats
    yield counter("prefix_hits", "Prompts of which a part was kept.", kept.hits)
    yield counter("prefix_misses", "Prompts of which none was.", kept.misses)
    yield counter("prefix_evictions", "Blocks that made room.", kept.evictions)
    yield gauge("prefix_blocks", "Blocks kept.", kept.blocks)
    yield gauge("prefix_bytes", "Memory of the blocks.", kept.bytes)
    yield gauge("prefix_budget_bytes", "What it may grow to.", kept.budget_bytes)


def _grammars(grammars: GrammarCompiler) -> Iterator[Metric]:
    yield histogram("grammar_compile_seconds", "Compiled, or tried to.", grammars.compile_times)
    yield counter("refused_grammars", "Of those, refused.", grammars.refused)
    yield counter("recalled_grammars", "Compiled lately, not again.", grammars.recalled)
