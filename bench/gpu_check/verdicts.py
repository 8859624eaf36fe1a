"""What is wanted of what the stages have measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from bench.gpu_check.subject import SERVED, Measured
from rapport.service.engine.pace import GPU_PACE

Outcome = Literal["passed", "failed", "not measured"]

# Of the divergence from float32, the mean over all rows of a kind, in nats. A stale input, a wrong
# position or a mixed-up slot makes it larger than 0.1. On the CPU, float16 is at 2e-5.
MAX_DIVERGENCE = {
    "float16": 1e-3,
    "bfloat16": 2e-2,
    "int4-float16": 1e-2,
    "int8-float16": 1e-2,
}
# How much less probable, in nats, a token may be to the reference than the one that it would take.
MAX_REGRET_NATS = {"float16": 0.2, "bfloat16": 1.0, "int4-float16": 0.7, "int8-float16": 0.7}
# Times of one run differ by so much.
NOISE = 1.1
# Eight rows cost at most so many times as much as one.
MAX_COST_OF_8_ROWS = 2.0
# By which factor a cost may be higher than was guessed.
MAX_FACTOR = 3.0
# What the drivers and libraries take by themselves once they are used.
MAX_TAKEN_LATER_BYTES = 32 * 2**20
MIB = 2**20


@dataclass(frozen=True, slots=True)
class Verdict:
    """A line of the table."""

    check: str
    wanted: str
    measured: str
    outcome: Outcome


def judge(found: Mapping[str, Measured]) -> list[Verdict]:
    """Verdicts on all stages, in their order. Without a GPU nothing else is judged."""
    verdicts = []
    for name, rule in RULES.items():
        measured = found.get(name)
        if measured is None:
            verdicts.append(_not_measured(name, "a GPU"))
        elif "error" in measured:
            verdicts.append(Verdict(name, "an end", measured["error"], "failed"))
        else:
            verdicts += rule(measured)
    return verdicts


def exit_status(verdicts: list[Verdict]) -> int:
    """0 if all passed, 1 if anything failed, 3 if nothing did but something was not measured."""
    outcomes = {verdict.outcome for verdict in verdicts}
    return 1 if "failed" in outcomes else 3 if "not measured" in outcomes else 0


def _judged(check: str, wanted: str, measured: str, *, good: bool) -> Verdict:
    return Verdict(check, wanted, measured, "passed" if good else "failed")


def _not_measured(check: str, wanted: str) -> Verdict:
    return Verdict(check, wanted, "-", "not measured")


def _device(found: Measured) -> Iterator[Verdict]:
    if found["obstacles"]:
        yield _judged("a GPU that can be used", "found", "\n".join(found["obstacles"]), good=False)
        return
    size = found["memory_bytes"] / MIB
    yield _judged(
        "a GPU that can be used",
        "chosen by auto",
        f"{found['name']}, {found['capability']}, CUDA {found['driver']}, {size:.0f} MiB",
        good=found["provider"] == "cuda",
    )


def _placement(found: Measured) -> Iterator[Verdict]:
    for precision, nodes in found.items():
        yield _judged(
            f"{precision}: nodes off the GPU",
            "shapes alone, no copies",
            ", ".join(nodes) or "none",
            good=not nodes,
        )


def _numbers(found: Measured) -> Iterator[Verdict]:
    for precision, bound in MAX_DIVERGENCE.items():
        regret = MAX_REGRET_NATS[precision]
        if precision not in found:
            yield _not_measured(f"{precision}: divergence from float32", f"at most {bound:g} nats")
            yield _not_measured(f"{precision}: greedy tokens", f"within {regret:g} nats")
            yield _not_measured(f"{precision}: a step again", "the same bits")
            continue
        measured = found[precision]
        for kind, each in measured["kinds"].items():
            yield _divergence(f"{precision}: {kind}", bound, each)
        greedy = measured["greedy"]
        yield _judged(
            f"{precision}: greedy tokens",
            f"within {regret:g} nats",
            f"{greedy['max_regret']:.3f}, {greedy['same']} of {greedy['tokens']} the same",
            good=greedy["max_regret"] <= regret,
        )
        alone = "as" if measured["independent_of_rows"] else "not as"
        yield _judged(
            f"{precision}: a step again",
            "the same bits",
            f"{'the same' if measured['repeatable'] else 'others'}; {alone} alone",
            good=measured["repeatable"],
        )


def _divergence(check: str, bound: float, each: Measured) -> Verdict:
    wanted = f"at most {bound:g} nats"
    if not each["finite"]:
        return _judged(check, wanted, "not finite", good=False)
    mean = each["mean_divergence"]
    measured = f"{mean:.2g}, {each['max_divergence']:.2g} at most, of {each['rows']} rows"
    return _judged(check, wanted, measured, good=mean <= bound)


def _graphs(found: Measured) -> Iterator[Verdict]:
    if not found:
        yield _not_measured("graphs: logits", "those without a graph")
        yield _not_measured("graphs: time of a step", "no more than without")
    for name, each in found.items():
        yield _judged(
            f"graph of {name}: logits",
            "those without a graph",
            "the same" if each["equal"] else f"{each['max_difference']:.2g} apart",
            good=each["equal"],
        )
        yield _judged(
            f"graph of {name}: a step",
            "no more than without",
            f"{each['graph_ms']:.2f} ms, without {each['eager_ms']:.2f}",
            good=each["graph_ms"] <= each["eager_ms"] * NOISE,
        )


def _memory(found: Measured) -> Iterator[Verdict]:
    planned, taken = found["planned_bytes"], found["taken_bytes"]
    parts = ", ".join(f"{name} {size / MIB:.0f}" for name, size in planned.items())
    total = sum(planned.values())
    yield _judged(
        "memory: taken at the start",
        f"at most {total / MIB:.0f} MiB ({parts})",
        f"{taken / MIB:.0f} MiB",
        good=taken <= total,
    )
    later = found["taken_later_bytes"]
    yield _judged(
        "memory: taken by steps",
        f"at most {MAX_TAKEN_LATER_BYTES / MIB:.0f} MiB",
        f"{later / MIB:.0f} MiB",
        good=later <= MAX_TAKEN_LATER_BYTES,
    )
    used = found["used_before_bytes"] + taken + later
    allowed = found["share"] * found["total_bytes"]
    yield _judged(
        "memory: in use",
        f"at most gpu_memory, {allowed / MIB:.0f} MiB",
        f"{used / MIB:.0f} MiB",
        good=used <= allowed,
    )


def _refusals(found: Measured) -> Iterator[Verdict]:
    for name, each in found.items():
        good = each["status"] == 1 and each["wanted"] in each["said"]
        yield _judged(f"refused: {name}", each["wanted"], each["said"], good=good)


def _speed(found: Measured) -> Iterator[Verdict]:
    if not found:
        for check in ("a step", "a slice", "the attention kernel", "drafts"):
            yield _not_measured(f"speed: {check}", "as verdicts.py has it")
        return
    for precision, each in found["precisions"].items():
        yield from _speed_of(precision, each)
    yield _kernels(found["kernels"])
    yield _draft_cost(found["precisions"][SERVED]["drafts"])


def _speed_of(precision: str, found: Measured) -> Iterator[Verdict]:
    steps, slices, candidates = found["steps"], found["slices"], found["candidates"]
    rates = ", ".join(f"{int(rows) / ms * 1e3:.0f}" for rows, ms in steps.items())
    yield _judged(
        f"{precision}: tokens/s of {', '.join(steps)} rows",
        f"8 rows cost at most {MAX_COST_OF_8_ROWS:g} of one",
        rates,
        good=steps["8"] <= MAX_COST_OF_8_ROWS * steps["1"],
    )
    largest = max(steps, key=int)
    yield _judged(
        f"{precision}: candidates of {largest} rows",
        "no more than the step",
        f"{candidates[largest]:.2f} ms, step {steps[largest]:.2f}",
        good=candidates[largest] <= steps[largest] * NOISE,
    )
    per_token = {size: ms / int(size) for size, ms in slices.items()}
    rates = ", ".join(f"{1e3 / each:.0f}" for each in per_token.values())
    yield _judged(
        f"{precision}: prompt tokens/s in slices of {', '.join(slices)}",
        "the longest is fastest",
        rates,
        good=per_token[max(slices, key=int)] <= min(per_token.values()) * NOISE,
    )


def _kernels(found: Measured) -> Verdict:
    *_, served = found
    times = {name: sum(each.values()) for name, each in found.items()}
    measured = ", ".join(f"{name} {ms:.2f} ms" for name, ms in times.items())
    good = times[served] <= min(times.values()) * NOISE
    return _judged("the attention kernel", f"{served} is fastest", measured, good=good)


def _draft_cost(found: Measured) -> Verdict:
    """Whether a token more in a draft costs no more than drafts are weighed by."""
    count = max(found, key=int)
    cost = (found[count] - found["1"]) / (int(count) - 1) / found["1"]
    most = GPU_PACE.draft_token_cost * MAX_FACTOR
    return _judged(
        "a token more in a draft", f"at most {most:g} of a step", f"{cost:.3f}", good=cost <= most
    )


def _service(found: Measured) -> Iterator[Verdict]:
    yield _judged(
        "rapport serve",
        "on cuda",
        f"on {found['provider']}, ready in {found['ready_s']:.1f} s",
        good=found["provider"] == "cuda",
    )
    streams = found.get("streams")
    if streams is None:
        yield _not_measured("streams", "none fails")
        return
    for count, each in streams.items():
        itl, rate = each["itl_p50_ms"], each["tokens_per_s"]
        times = f"{rate:.0f} tokens/s" + (f", ITL {itl:.1f} ms" if itl is not None else "")
        measured = f"{each['failed']} failed; {times}"
        yield _judged(f"{count} streams", "none fails", measured, good=each["failed"] == 0)


RULES: Mapping[str, Callable[[Measured], Iterator[Verdict]]] = {
    "device": _device,
    "placement": _placement,
    "numbers": _numbers,
    "graphs": _graphs,
    "memory": _memory,
    "refusals": _refusals,
    "speed": _speed,
    "service": _service,
}
