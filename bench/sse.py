"""Server-sent events, as far as chat completions use them: one line of data an event."""

from __future__ import annotations


class EventReader:
    """Takes the bytes of a stream as they come and gives the data of what is complete."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        *lines, self._rest = (self._rest + data).split(b"\n")
        return [line[5:].strip() for line in lines if line.startswith(b"data:")]
