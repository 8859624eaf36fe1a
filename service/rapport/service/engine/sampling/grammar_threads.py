"""Threads for the work of grammars, which goes on beside the model's."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Lock

# A call into the grammar engine cannot be interrupted, so there are threads for the others.
THREADS = 4
MAX_SLOW_AT_ONCE = 1

Job = Callable[[], None]


class GrammarThreads:
    """Runs jobs: those of a queue one after the other, and the queues in turn.

    Of queues that are slow few run at once, so that the others and the model go on beside them.
    """

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(THREADS, thread_name_prefix="grammar")
        self._lock = Lock()
        self._turns: deque[JobQueue] = deque()
        """Queues that have jobs, none of which is running."""
        self._slow_running = 0

    def queue(self) -> JobQueue:
        """A new queue."""
        return JobQueue(self)

    def submit(self, queue: JobQueue, job: Job) -> None:
        """Adds a job to a queue. It must not raise."""
        with self._lock:
            queue.jobs.append(job)
            if not queue.active:
                queue.active = True
                self._turns.append(queue)
        self._executor.submit(self._serve)

    def _serve(self) -> None:
        """Runs jobs for as long as there are any that may run now."""
        while (queue := self._take()) is not None:
            slow = queue.slow
            try:
                queue.jobs.popleft()()
            finally:
                self._put_back(queue, was_slow=slow)

    def _take(self) -> JobQueue | None:
        with self._lock:
            for queue in self._turns:
                if not queue.slow or self._slow_running < MAX_SLOW_AT_ONCE:
                    self._turns.remove(queue)
                    self._slow_running += queue.slow
                    return queue
        return None

    def _put_back(self, queue: JobQueue, *, was_slow: bool) -> None:
        with self._lock:
            self._slow_running -= was_slow
            queue.active = bool(queue.jobs)
            if queue.active:
                self._turns.append(queue)


class JobQueue:
    """The jobs of one grammar. A running job may set `slow`, which counts from the next one on."""

    def __init__(self, threads: GrammarThreads) -> None:
        self.jobs: deque[Job] = deque()
        self.active = False
        """Whether it has a job, waiting or running."""
        self.slow = False
        self._threads = threads

    def submit(self, job: Job) -> None:
        """Runs a job after those that were submitted before."""
        self._threads.submit(self, job)
