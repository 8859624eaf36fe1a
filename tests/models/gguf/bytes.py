"""Parts of GGUF files, byte by byte."""

from __future__ import annotations


def number(value: int, size: int = 8) -> bytes:
    return value.to_bytes(size, "little")


START = b"GGUF" + number(3, 4) + number(0)
KEY = number(1) + b"k"
LIST, STRING, UINT32, FLOAT32 = number(9, 4), number(8, 4), number(4, 4), number(6, 4)
