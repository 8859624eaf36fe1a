"""The bench of the way around the engine."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bench import delivery, wire
from bench.instant import FIRST, KINDS, InstantRunner


def test_every_stream_is_counted(
    cpu_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two rounds over REST and gRPC give figures of both processes, though one client is stuck."""
    del cpu_folder  # it is fetched before
    arguments = "delivery --streams 2 --tokens 20 --rounds 2 --stuck 1"
    monkeypatch.setattr("sys.argv", arguments.split())
    delivery.main()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == ["REST", "gRPC"] * 2
    for line in lines:
        assert re.search(r" [1-9]\d* tokens/s, \d\.\d\d messages/token; service .*; gateway ", line)


def test_instant_tokens() -> None:
    """The next token depends on the place alone, for each slot of a step, and is no other's."""
    runner = InstantRunner(slots=3, vocabulary=5000, step=0)
    for pasts in ([0, 5, 9], [KINDS, 6], [7, 7, 7]):
        logits = runner.decode([0] * len(pasts), pasts)
        assert logits.argmax(axis=1).tolist() == [FIRST + past % KINDS for past in pasts]
        assert (logits.sum(axis=1) == 1).all()


async def test_events_are_counted_across_pieces() -> None:
    """However the bytes are cut, each event counts once."""
    data = b'data: {"a":1}\n\n' * 3 + b"data: [DONE]\n\n\r\n0\r\n\r\n"
    for size in range(1, len(data)):
        counter = wire.EventCounter()
        for start in range(0, len(data), size):
            assert not counter.ended.done()
            counter.data_received(data[start : start + size])
        assert counter.messages == 4
        assert counter.ended.done()
