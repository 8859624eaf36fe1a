"""All attacks at once, with random sizes, in processes of their own."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random

import grpc
import httpx

from tests.hostile.random_attacks import ATTACKS, Attack, Dice, Scene

# Two, so that the attackers are not held back by one interpreter.
PROCESSES = 2
# Other machines would compute for the attackers; here they must not take what is measured.
NICENESS = 15
MAX_PAUSE_S = 1.0


@dataclass(frozen=True)
class Outcome:
    """How often each attack was made, and what an attacker must never see, such as a 500."""

    runs: Counter[str]
    errors: list[str]


@contextmanager
def mixed(scene: Scene, seed: int, seconds: float) -> Iterator[Callable[[], Outcome]]:
    """Starts all attacks, each repeated for so many seconds. The value waits for their end."""
    context = multiprocessing.get_context("spawn")
    results = context.SimpleQueue()
    workers = [
        context.Process(
            target=_work, args=(results, scene, ATTACKS[at::PROCESSES], seed, seconds), daemon=True
        )
        for at in range(PROCESSES)
    ]
    for worker in workers:
        worker.start()

    def outcome() -> Outcome:
        parts: list[Outcome] = [results.get() for _ in workers]
        runs = sum((part.runs for part in parts), Counter())
        return Outcome(runs, [error for part in parts for error in part.errors])

    try:
        yield outcome
    finally:
        for worker in workers:
            worker.join(timeout=0.1)
            worker.kill()
            worker.join()


def _work(
    results: multiprocessing.SimpleQueue[Outcome],
    scene: Scene,
    attacks: tuple[Attack, ...],
    seed: int,
    seconds: float,
) -> None:
    """Makes each of the attacks, over and over, in a thread of its own."""
    os.nice(NICENESS)
    outcome, until = Outcome(Counter(), []), time.monotonic() + seconds
    threads = [
        threading.Thread(target=_repeat, args=(attack, scene, seed, until, outcome))
        for attack in attacks
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    results.put(outcome)


def _repeat(attack: Attack, scene: Scene, seed: int, until: float, outcome: Outcome) -> None:
    random = Random(f"{seed}/{attack.__name__}")  # noqa: S311 - sizes, not secrets
    while time.monotonic() < until:
        try:
            attack(scene, Dice(scene, random))
        except (OSError, httpx.HTTPError, grpc.RpcError):  # the server may hang up on an attacker
            pass
        except Exception as error:  # noqa: BLE001 - the test lists whatever went wrong
            outcome.errors.append(f"{attack.__name__}: {error!r}")
        outcome.runs[attack.__name__] += 1
        time.sleep(random.uniform(0, MAX_PAUSE_S))
