from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from bench.sse import EventReader

STREAM = b': hello\n\ndata: {"a": "\xc3\xa9"}\n\ndata:{"b":1}\r\n\r\nevent: x\ndata: [DONE]\n\n'
EVENTS = [b'{"a": "\xc3\xa9"}', b'{"b":1}', b"[DONE]"]


@given(st.lists(st.integers(0, len(STREAM)), max_size=8).map(sorted))
def test_events_are_the_same_however_the_stream_is_cut(cuts: list[int]) -> None:
    """Chunk borders mean nothing: events come out whole wherever the network cuts."""
    reader = EventReader()
    bounds = [0, *cuts, len(STREAM)]
    chunks = [STREAM[start:end] for start, end in pairwise(bounds)]
    assert [event for chunk in chunks for event in reader.feed(chunk)] == EVENTS
