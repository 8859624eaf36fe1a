"""What is wrong with a text that is no JSON, and where."""

from __future__ import annotations

from json import JSONDecodeError

# Parts of the messages of json and orjson, and what they mean.
REASONS = {
    "depth limit": "it is nested too deep",
    "infinity": "a number is too large",
    "surrogate": "a character is half escaped",
    "control character": "a control character in a string is not escaped",
    "escape": "JSON has no such escape",
    "comma": "a comma is wrong",
    "leading zero": "a number begins with 0",
    "no digit": "a number has no digits",
    "extra data": "the value has ended",
    "after document": "the value has ended",
    "zero-length": "it is empty",
    "data is empty": "it is empty",
}


def json_problem(error: JSONDecodeError) -> str:
    """What is wrong, such as `line 1, column 8 (byte 7): the text ends too early`.

    Lines and columns count from 1, bytes from 0.
    """
    message = error.msg.lower()
    default = "the text ends too early" if error.pos >= len(error.doc) else "this is not expected"
    reason = next((each for part, each in REASONS.items() if part in message), default)
    byte = len(error.doc[: error.pos].encode(errors="replace"))
    return f"line {error.lineno}, column {error.colno} (byte {byte}): {reason}"
