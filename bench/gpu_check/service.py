"""`rapport serve` on the GPU, under streams."""

from __future__ import annotations

import re

import uvloop

from bench.gpu_check.subject import Measured, Subject
from bench.load import Closed
from bench.scenario import Limits, Outcome, Session
from bench.server import Target, rapport
from bench.workload import Workload

SLOTS = 64
STREAMS = (1, 8, 16, 64)
PROMPT_TOKENS, ANSWER_TOKENS = 128, 128
LIMITS = Limits(request=30, scenario=30)
SERVING = re.compile(r"serving \S+ \(\S+\) on (\w+)")


def measure(subject: Subject) -> Measured:
    """Which provider it says it serves on; tokens per second and pauses."""
    settings = {"provider": "cuda", "slots": SLOTS, "kv_budget": "4GiB", "prefix_cache": "1GiB"}
    with rapport(model_folder=subject.folder(), **settings) as (server, target):
        serving = SERVING.search(server.log())
        found: Measured = {"provider": serving[1] if serving else None}
        found["ready_s"] = server.ready_after
        if subject.computes:
            found["streams"] = uvloop.run(load(target, subject.spec().id))
    return found


async def load(target: Target, model: str) -> Measured:
    """Each number of streams, one after the other."""
    workload = Workload(model, PROMPT_TOKENS, ANSWER_TOKENS, temperature=0.7, seed=0)
    async with Session(target, workload, LIMITS, None) as session:
        await session.warm_up(["rest"], 2)
        outcomes = [await session.measure("rest", Closed(each, 2 * each)) for each in STREAMS]
    return {str(each): figures(outcome) for each, outcome in zip(STREAMS, outcomes, strict=True)}


def figures(outcome: Outcome) -> Measured:
    summary = outcome.summary
    return {
        "failed": summary.requests - summary.ok,
        "tokens_per_s": summary.output_rate,
        "itl_p50_ms": summary.itl.p50 * 1e3 if summary.itl else None,
        "ttft_p50_ms": summary.ttft.p50 * 1e3 if summary.ttft else None,
    }
