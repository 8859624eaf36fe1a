from __future__ import annotations

from typing import Any

import pytest
from numpy.typing import NDArray

from rapport.service.engine.generation import Generation
from rapport.service.engine.kv.prefix_cache import PrefixCache
from rapport.service.engine.kv.prefix_store import PrefixStore
from rapport.service.engine.messages import AddRequest, dispatch
from rapport.service.engine.scheduling.scheduler import Scheduler
from rapport.service.engine.worker import Worker
from tests.service.engine.fake import END, FakeRunner, ShortSlices, byte_vocabulary, greedy


class Full(FakeRunner):
    """Slots of which nothing can be copied out."""

    def read(self, *_: int) -> NDArray[Any]:
        raise MemoryError


def test_a_prefix_that_cannot_be_kept_harms_no_request(caplog: pytest.LogCaptureFixture) -> None:
    """Without memory for prefixes a request ends as ever, in prefill and at its end."""
    runner = Full()
    scheduler = Scheduler(runner, byte_vocabulary(), {END}, budget=1000)
    prefixes = PrefixCache(PrefixStore(10**6), runner)
    worker = Worker(runner, scheduler, ShortSlices(), prefixes, dispatch)
    generation = Generation(greedy("a" * 40, 5), lambda _: None)
    worker.put(AddRequest(generation))
    while not generation.ended:
        worker.step()
    assert generation.error is None
    assert generation.completion_tokens == 5
    assert "no memory" in caplog.text
