"""All comparisons: their figures and goals, and the setups of the peer.

A goal is a ratio to the peer. For times and memory lower is better: there, a goal of 2 means half.
"""

from __future__ import annotations

from bench.versus import workloads as run
from bench.versus.figures import Figure, Setup, Workload

# llama.cpp has several kinds of n-gram drafts. Its defaults need longer matches than is best here.
DRAFTS = tuple(
    Setup(1, 2048, ("--spec-type", *flags))
    for flags in (
        ("ngram-simple",),
        ("ngram-simple", "--spec-ngram-simple-size-n", "4", "--spec-ngram-simple-size-m", "16"),
        ("ngram-map-k",),
        ("ngram-cache",),
    )
)


def ttft(name: str, goal: float) -> Figure:
    return Figure(name, "s", goal, higher_is_better=False)


RATE = "tokens/s"
OPEN_MIX = "open-mix"

WORKLOADS = (
    Workload(
        "one-stream",
        "one stream, short prompt, 128 tokens out",
        (Figure("speed", RATE, 1.3),),
        (Setup(1),),
        run.one_stream,
    ),
    Workload(
        "8-streams",
        "8 streams",
        (Figure("speed, all", RATE, 2.0), ttft("ITL p99", 1.0)),
        (Setup(8, 1024),),
        run.eight_streams,
    ),
    Workload(
        "32-streams",
        "32 streams on 16 slots",
        (Figure("speed, all", RATE, 2.0), ttft("TTFT p95", 1.0)),
        (Setup(16, 1024),),
        run.many_streams,
    ),
    Workload(
        "cold-prompt",
        "cold prompt of 2000 tokens",
        (ttft("TTFT", 2.0),),
        (Setup(1), Setup(1, 4096, ("--ubatch-size", "2048"))),
        run.cold_prompt,
    ),
    Workload(
        "shared-prompt",
        "shared system prompt of 1500 tokens, short questions",
        (ttft("TTFT from the second on", 1.5),),
        (Setup(1),),
        run.shared_prompt,
    ),
    Workload(
        "shared-at-once",
        "eight at once over a new system prompt of 1500 tokens",
        (ttft("TTFT p50", 3.0),),
        (Setup(1), Setup(8, 2048)),
        run.shared_at_once,
    ),
    Workload(
        "six-turns",
        "six-turn chat",
        (ttft("TTFT from the second turn on", 1.5),),
        (Setup(1),),
        run.six_turns,
    ),
    Workload(
        "json",
        "JSON of a schema, 4 streams",
        (Figure("documents", "1/s", 2.0),),
        (Setup(4, 1024),),
        run.json_documents,
    ),
    Workload(
        "repeat",
        "text of the prompt repeated, one stream, drafts on",
        (Figure("speed after the first token", RATE, 1.2),),
        DRAFTS,
        run.repetition,
    ),
    Workload(
        "long-context",
        "prompt of 7000 tokens, 64 tokens out",
        (ttft("TTFT", 1.0), Figure("speed after it", RATE, 1.0)),
        (Setup(1, 8192),),
        run.long_context,
    ),
    Workload(
        OPEN_MIX,
        "open-loop mix, Rapport under 1.5 times the load",
        (Figure("goodput", "answers/s", 1.0), Figure("share of good answers", "", 1.0)),
        (Setup(16, 2048),),
        run.open_mix,
    ),
    Workload(
        "memory",
        "peak memory of all processes over a mixed load",
        (Figure("RSS", "MiB", 1 / 1.5, higher_is_better=False),),
        (Setup(16, 2048),),
        run.memory_load,
        max_rounds=3,
    ),
)

# The capacity that the load of the open loop is a part of.
CAPACITY = Workload(
    "mix-capacity",
    "the open loop's mix with 16 requests at all times",
    (Figure("answers", "1/s", 1.0),),
    (Setup(16, 2048),),
    run.mix_capacity,
)
