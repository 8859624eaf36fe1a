from __future__ import annotations

import pytest

from rapport.service.engine.runtime.faults import POINTS, parse_faults
from rapport.service.engine.runtime.faulty_runner import FaultyRunner, inject_text_faults
from tests.service.engine.fake import FakeRunner, byte_vocabulary


@pytest.mark.parametrize("point", POINTS)
def test_every_point_is_one(point: str) -> None:
    """What is named in a fault is called when the engine runs."""
    faults = parse_faults(f"{point}:raise")
    runner, vocabulary = FaultyRunner(FakeRunner(), faults), byte_vocabulary()
    inject_text_faults(vocabulary, faults)
    holder = runner.memory if point in {"read", "write"} else runner
    call = vocabulary.token_bytes.__getitem__ if point == "text" else getattr(holder, point)
    with pytest.raises(RuntimeError, match="injected"):
        call(0)
