"""Loads models on the GPU, one after the other."""

from __future__ import annotations

import gc
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from bench.gpu_check.subject import SERVED, Measured, Subject
from rapport.service.engine.runtime.load import load_runner
from rapport.service.engine.runtime.memory_plan import MemoryLimits
from rapport.service.engine.runtime.providers import choose_provider
from rapport.service.engine.runtime.runner import Runner


def load_on_gpu(
    subject: Subject, slots: int, limits: MemoryLimits, precision: str = SERVED
) -> Runner:
    """Loads the model in a precision, in the memory of runners that are no longer used."""
    gc.collect()  # a runner refers to itself
    folder, spec = subject.folder(precision), subject.spec(precision)
    return load_runner(folder, spec, choose_provider("cuda"), slots, 0, limits=limits)


def apart(measure: Callable[..., Measured], *arguments: object) -> Measured:
    """What is measured in a process of its own: ONNX Runtime keeps the memory it has taken."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(measure, *arguments).result()
