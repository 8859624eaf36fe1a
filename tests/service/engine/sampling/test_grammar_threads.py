from __future__ import annotations

from threading import Event

from rapport.service.engine.sampling.grammar_threads import THREADS, GrammarThreads

MAX_WAIT_S = 30


def test_the_jobs_of_a_queue_run_in_order() -> None:
    """One after the other, also where several threads are free."""
    queue, seen, done = GrammarThreads().queue(), list[int](), Event()
    for number in range(50):
        queue.submit(lambda number=number: seen.append(number))  # type: ignore[misc] - bound now
    queue.submit(done.set)
    assert done.wait(MAX_WAIT_S)
    assert seen == list(range(50))


def test_queues_take_turns() -> None:
    """One job of another queue does not wait for the many of a first."""
    threads, opened, seen, done = GrammarThreads(), Event(), list[str](), Event()
    blockers = [threads.queue() for _ in range(THREADS)]
    for blocker in blockers:
        blocker.submit(lambda: opened.wait(MAX_WAIT_S) and None)
    many, one = threads.queue(), threads.queue()
    for _ in range(20):
        many.submit(lambda: seen.append("many"))
    one.submit(lambda: seen.append("one"))
    many.submit(done.set)
    opened.set()
    assert done.wait(MAX_WAIT_S)
    assert seen.index("one") <= THREADS


def test_slow_queues_leave_threads_to_others() -> None:
    """However many are slow, a job of a queue that is not runs."""
    threads, opened, done = GrammarThreads(), Event(), Event()
    for _ in range(2 * THREADS):
        queue = threads.queue()
        queue.slow = True
        queue.submit(lambda: opened.wait(MAX_WAIT_S) and None)
    threads.queue().submit(done.set)
    assert done.wait(MAX_WAIT_S)
    opened.set()


def test_slow_jobs_all_run_in_the_end() -> None:
    """Also those that had to wait for others that are slow."""
    threads, finished = GrammarThreads(), [Event() for _ in range(3 * THREADS)]
    for event in finished:
        queue = threads.queue()
        queue.slow = True
        queue.submit(event.set)
    assert all(event.wait(MAX_WAIT_S) for event in finished)
