"""How long steps take on the GPU, and with which of ONNX Runtime's kernels for attention."""

from __future__ import annotations

from functools import partial

from bench.gpu_check.course import prompt
from bench.gpu_check.loading import apart, load_on_gpu
from bench.gpu_check.memory import settings
from bench.gpu_check.subject import Measured, Subject
from bench.gpu_check.timing import median_ms
from rapport.models.onnx.precision import CUDA_PRECISIONS
from rapport.service.engine.runtime.memory_plan import MemoryLimits
from rapport.service.engine.runtime.providers import CUDA_OPTIONS
from rapport.service.engine.runtime.runner import Runner
from rapport.service.engine.sampling.logits import DeviceLogits, Logits
from rapport.service.engine.speculative.drafter import MAX_DRAFT_TOKENS

SLOTS = 64
ROWS = (1, 8, 16, 64)
SLICES = (256, 512, 1024, 2048)
CONTEXT, SHORT_CONTEXT = 1000, 100
LIMITS = MemoryLimits(kv_bytes=4 * 2**30)
# Values of the provider's option `sdpa_kernel`: any, flash, and what is served.
KERNELS = {"any": "0", "flash": "1", "flash or memory-efficient": CUDA_OPTIONS["sdpa_kernel"]}


def measure(subject: Subject) -> Measured:
    """Times in milliseconds, of each precision and then of each kernel for attention."""
    found: Measured = {"precisions": {}, "kernels": {}}
    for precision in CUDA_PRECISIONS:
        found["precisions"][precision] = apart(times, subject, precision)
    for name, value in KERNELS.items():
        found["kernels"][name] = apart(attention_times, subject, value)
    return found if subject.computes else {}


def attention_times(subject: Subject, kernel: str) -> Measured:
    """Steps that attend to much, with a kernel, in a process of their own."""
    CUDA_OPTIONS["sdpa_kernel"] = kernel
    runner = load_on_gpu(subject, SLOTS, LIMITS)
    return {
        "64 rows": _step(runner, SLOTS, CONTEXT),
        "slice of 1024": median_ms(partial(_slice, runner, 1024)),
    }


def times(subject: Subject, precision: str) -> Measured:
    """Decode steps, candidates, slices and drafts."""
    runner = load_on_gpu(subject, SLOTS, LIMITS, precision)
    text = subject.text(CONTEXT)
    for slot in range(SLOTS):
        prompt(runner, slot, text)
    longest = MAX_DRAFT_TOKENS + 1
    return {
        "steps": {str(rows): _step(runner, rows, CONTEXT) for rows in ROWS},
        "steps_of_short": {str(rows): _step(runner, rows, SHORT_CONTEXT) for rows in ROWS},
        "candidates": {str(rows): _candidates(runner, rows, subject) for rows in ROWS},
        "slices": {str(size): median_ms(partial(_slice, runner, size)) for size in SLICES},
        "drafts": {
            str(count): median_ms(partial(runner.verify, 0, [5] * count, CONTEXT - longest))
            for count in (1, longest)
        },
    }


def _step(runner: Runner, rows: int, context: int) -> float:
    return median_ms(partial(runner.decode, [5] * rows, [context - 1] * rows))


def _slice(runner: Runner, size: int) -> Logits:
    return runner.prefill(0, [5] * min(size, runner.slot_tokens), 0)


def _candidates(runner: Runner, rows: int, subject: Subject) -> float:
    """Those of a step's rows: one upload, the graph, and one transfer back."""
    logits = runner.decode([5] * rows, [CONTEXT - 1] * rows)
    if not isinstance(logits, DeviceLogits):
        raise TypeError("the logits are on the host")
    size = subject.spec().vocab_size
    return median_ms(partial(logits.candidates, [settings(row, size) for row in range(rows)]))
