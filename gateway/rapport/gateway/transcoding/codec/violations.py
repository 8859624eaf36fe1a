"""What is wrong with a JSON document, and where."""

from __future__ import annotations

import reprlib
from dataclasses import dataclass
from typing import Any

MAX_DEPTH = 90  # Protobuf itself reads messages nested up to 100 deep.
MAX_SHOWN = 100
# Enough to tell of. A document of megabytes could have a million, each with its path.
MAX_FOUND = 1000

_REPR = reprlib.Repr()
_REPR.maxstring = 100


class TooDeepError(Exception):
    """The document is nested deeper than a message may be."""


class Path:
    """A place in a JSON document, as steps from its root.

    Rendering is put off until there is something to report.
    """

    __slots__ = ("depth", "is_arm", "parent", "step")

    def __init__(self, parent: Path | None, step: str, *, is_arm: bool = False) -> None:
        self.parent = parent
        self.step = step
        self.is_arm = is_arm
        self.depth: int = parent.depth + 1 if parent else 0
        if self.depth > MAX_DEPTH:
            raise TooDeepError

    def member(self, name: str) -> Path:
        return Path(self, f".{name}")

    def item(self, index: int) -> Path:
        return Path(self, f"[{index}]")

    def arm(self, label: str) -> Path:
        """The same place, read as one of the types of a union."""
        return Path(self, f".{label}", is_arm=True)

    def text(self, *, arms: bool = True) -> str:
        """`messages[0].content.str`, or `messages[0].content` without the arms."""
        steps = []
        place: Path | None = self
        while place is not None:
            if arms or not place.is_arm:
                steps.append(place.step)
            place = place.parent
        return "".join(reversed(steps)).removeprefix(".")


ROOT = Path(None, "")


@dataclass(frozen=True, slots=True)
class Violation:
    where: Path
    problem: str
    value: str = ""

    def __str__(self) -> str:
        path = self.where.text()
        field = f", field: '{path}'" if path else ""
        return f"{self.problem}{field}{self.value}"


class TooManyError(Exception):
    """There are as many violations as are told of."""


class Violations(list[Violation]):
    """Violations, up to a number."""

    def append(self, violation: Violation) -> None:
        """Raises TooManyError with the last one."""
        super().append(violation)
        if len(self) == MAX_FOUND:
            raise TooManyError


def extra(where: Path, value: Any) -> Violation:
    """An input that nothing asks for. Scalars are shown, long ones cut."""
    shown = "" if isinstance(value, (list, dict)) else f", value: {_REPR.repr(value)}"
    return Violation(where, "Extra inputs are not permitted", shown)


class InvalidError(Exception):
    """A document that is not the message it should be.

    The text lists the violations, `param` is the JSON path of the first, None
    if that is the document itself.
    """

    def __init__(self, violations: list[Violation]) -> None:
        shown = "; ".join(map(str, violations[:MAX_SHOWN]))
        least = "at least " if len(violations) == MAX_FOUND else ""
        many = f"{least}{len(violations)} request validation errors: "
        super().__init__(many + shown if len(violations) > 1 else shown)
        self.violations = violations
        self.param = violations[0].where.text(arms=False) or None
