"""What varies from run to run, and how two answers are told apart all the same."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable
from typing import Any

UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
CALL = re.compile(r"call_[A-Za-z0-9]{24}")
# A log probability as it came, and as it is kept.
LONG = re.compile(r"-?\d\.\d{4,}e-\d+|-?\d+\.\d{6,}")
KEPT = re.compile(r"≈(-?\d+\.\d{4})")
# A legacy table of alternatives, which comes in any order.
ENTRY = r'"(?:[^"\\]|\\.)*":≈-?\d+\.\d{4}'
TABLE = re.compile(rf"\{{({ENTRY}(?:,{ENTRY})*)\}}")
# Far more than rounding makes of a log probability, far less than any change of the model.
TOLERANCE = 1e-3

PATTERNS = (
    (re.compile(r'("created": ?)"?\d{9,}"?'), r"\1<time>"),
    (
        re.compile(
            r'("(?:server[-_]time[-_]to[-_]first[-_]token|server[-_]processing[-_]time'
            r'|prefill[-_]queue[-_]duration|prefill[-_]duration|generation[-_]duration)": ?)'
            r"[\d.e-]+"
        ),
        r"\1<seconds>",
    ),
    (re.compile(r'("uptime(?:_s|S)econds": ?)[\d.e-]+'), r"\1<seconds>"),
    (re.compile(r'("retryDelay": ?)"(?!1s")[\d.]+s"'), r'\1"<seconds>"'),
    (re.compile(r'("version": ?)"\d[^"]*"'), r'\1"<version>"'),
    (re.compile(r"127\.0\.0\.1:\d+"), "<address>"),
)
NUMBERS = (re.compile(r'(?<=:)-?\d[\d.e+-]*|(?<=: )-?\d[\d.e+-]*|(?<=: )"\d+"'), "<number>")
VARYING = {
    "date": "<date>",
    "fireworks-server-time-to-first-token": "<seconds>",
    "fireworks-server-processing-time": "<seconds>",
    "retry-after-ms": "<milliseconds>",
}
# Tokens come back as time goes by; requests do so slowly.
REFILLED = re.compile(r"x-ratelimit-remaining-tokens-.*")


class Names:
    """Gives ids that are made at random names that are not, in the order they come in."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}

    def __call__(self, text: str) -> str:
        text = UUID.sub(self._named("id"), text)
        return CALL.sub(self._named("call"), text)

    def _named(self, kind: str) -> Callable[[re.Match[str]], str]:
        def name(match: re.Match[str]) -> str:
            known = sum(each.startswith(f"<{kind} ") for each in self._names.values())
            return self._names.setdefault(match[0], f"<{kind} {known + 1}>")

        return name


def masked(text: str, names: Names, extra: str = "") -> str:
    """A text without what varies; log probabilities are marked and rounded."""
    text = names(text)
    for pattern, replacement in PATTERNS:
        text = pattern.sub(replacement, text)
    if extra == "numbers":
        text = NUMBERS[0].sub(NUMBERS[1], text)
    text = LONG.sub(lambda match: f"≈{float(match[0]):.4f}", text)
    return TABLE.sub(lambda match: f"{{{','.join(sorted(re.findall(ENTRY, match[1])))}}}", text)


def header_lines(headers: list[tuple[str, str]], names: Names) -> list[str]:
    """Headers or metadata in the order of their names, without what varies."""
    kinds = {name.lower() for name, _ in headers}
    lines = []
    for name, value in headers:
        shown = VARYING.get(name.lower(), names(value))
        if REFILLED.fullmatch(name) or (name == "retry-after" and "retry-after-ms" in kinds):
            shown = "<number>"
        lines.append(f"{name}: {shown}")
    return sorted(lines)


def difference(recorded: Any, answer: Any) -> str:
    """A readable diff of two answers; empty if they are the same but for rounding."""
    before, after = dumped(recorded), dumped(answer)
    if is_same(before, after):
        return ""
    lines = difflib.unified_diff(
        readable(before), readable(after), "recorded", "now", lineterm="", n=4
    )
    return "\n".join(lines)


def is_same(before: str, after: str) -> bool:
    if KEPT.sub("≈", before) != KEPT.sub("≈", after):
        return False
    pairs = zip(KEPT.findall(before), KEPT.findall(after), strict=True)
    return all(abs(float(one) - float(other)) <= TOLERANCE for one, other in pairs)


def dumped(answer: Any) -> str:
    return json.dumps(answer, indent=1, ensure_ascii=False)


def readable(text: str) -> list[str]:
    """The lines of an answer, where JSON within a text has a line for each member."""
    return re.sub(r'(?<=[,{\[])(?=\\"|\{)', "\n    ", text).replace('\\"', '"').splitlines()
