"""What is made of figures: of those that a GPU might give, each made worse in turn.

Those of numbers are the float16 graph's on the CPU; the others are estimates, for there was no GPU.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench.gpu_check.stages import STAGES
from bench.gpu_check.verdicts import MIB, RULES, exit_status, judge

FIGURES = Path(__file__).with_name("measured.json").read_text(encoding="utf-8")


def figures(**changes: Any) -> dict[str, Any]:
    """The figures, with some of them changed: keys are paths, with two underscores between."""
    found: dict[str, Any] = json.loads(FIGURES)
    for path, value in changes.items():
        place, (*names, last) = found, path.split("__")
        for name in names:
            place = place[name]
        place[last] = value
    return found


def test_every_stage_is_judged() -> None:
    assert list(RULES) == list(STAGES)


def test_a_gpu_that_does_all_it_should_passes() -> None:
    verdicts = judge(figures())
    assert {verdict.outcome for verdict in verdicts} == {"passed"}
    assert exit_status(verdicts) == 0


@pytest.mark.parametrize(
    ("path", "value", "check"),
    [
        ("device__provider", "cpu", "a GPU that can be used"),
        ("placement__float16", ["GroupQueryAttention_0"], "float16: nodes off the GPU"),
        ("numbers__float16__kinds__drafts__mean_divergence", 0.3, "float16: drafts"),
        ("numbers__bfloat16__kinds__slices", {"finite": False}, "bfloat16: slices"),
        ("numbers__float16__greedy__max_regret", 2.5, "float16: greedy tokens"),
        ("numbers__float16__repeatable", False, "float16: a step again"),
        ("graphs__8 rows__equal", False, "graph of 8 rows: logits"),
        ("graphs__a draft of 8__graph_ms", 2.5, "graph of a draft of 8: a step"),
        ("memory__taken_bytes", 4000 * MIB, "memory: taken at the start"),
        ("memory__taken_later_bytes", 500 * MIB, "memory: taken by steps"),
        ("memory__used_before_bytes", 140_000 * MIB, "memory: in use"),
        ("refusals__too little memory__status", 0, "refused: too little memory"),
        ("refusals__a device that is hidden__said", "oh", "refused: a device that is hidden"),
        ("speed__precisions__float16__steps__8", 5.0, "float16: tokens/s of 1, 8, 16, 64 rows"),
        ("speed__precisions__float16__candidates__64", 9.0, "float16: candidates of 64 rows"),
        (
            "speed__precisions__float16__slices__2048",
            60.0,
            "float16: prompt tokens/s in slices of 256, 512, 1024, 2048",
        ),
        ("speed__precisions__float16__drafts__1", 0.5, "a token more in a draft"),
        ("speed__kernels__any", {"64 rows": 0.6, "slice of 1024": 5.0}, "the attention kernel"),
        ("service__provider", None, "rapport serve"),
        ("service__streams__64__failed", 3, "64 streams"),
        ("numbers", {"error": "no end after 120 s"}, "numbers"),
    ],
)
def test_what_is_worse_than_wanted_fails_alone(path: str, value: Any, check: str) -> None:
    """Its line says so, and the exit status is 1."""
    verdicts = judge(figures(**{path: value}))
    failed = [verdict.check for verdict in verdicts if verdict.outcome == "failed"]
    assert failed == [check]
    assert exit_status(verdicts) == 1


def test_without_a_gpu_its_absence_fails_and_nothing_else_is_judged() -> None:
    first, *others = judge({"device": {"obstacles": ["no NVIDIA driver was found"]}})
    assert (first.measured, first.outcome) == ("no NVIDIA driver was found", "failed")
    assert {verdict.outcome for verdict in others} == {"not measured"}
    assert exit_status([first, *others]) == 1


def test_where_kernels_compute_nothing_numbers_and_times_are_not_measured() -> None:
    """What the provider itself does is judged all the same."""
    found = figures(numbers={}, graphs={}, speed={}, service={"provider": "cuda", "ready_s": 2.0})
    verdicts = judge(found)
    assert exit_status(verdicts) == 3
    passed = [verdict.check for verdict in verdicts if verdict.outcome == "passed"]
    assert "float16: nodes off the GPU" in passed
    assert "memory: taken at the start" in passed
    assert "rapport serve" in passed
    left = {verdict.check for verdict in verdicts if verdict.outcome == "not measured"}
    assert {"float16: greedy tokens", "graphs: logits", "speed: a step", "streams"} <= left
