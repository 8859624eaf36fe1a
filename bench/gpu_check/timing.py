"""How long a call takes."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

WARM_UPS = 3
ROUNDS = 20


def median_ms(work: Callable[[], object]) -> float:
    """The median of some calls, in milliseconds. All runs wait until the device is done."""
    for _ in range(WARM_UPS):
        work()
    times = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return statistics.median(times) * 1e3
