"""The violations in a JSON document, and the paths of their places."""

from __future__ import annotations

import reprlib
from dataclasses import dataclass
from typing import Any

MAX_DEPTH = 90  # protobuf parses messages nested up to 100 deep
MAX_SHOWN = 100
# A document of megabytes could have a million violations, each with its path.
MAX_VIOLATIONS = 1000

# The member is of another service, and could not change the answer.
FOREIGN_HINT = " (dropped where the server's setting unknown_fields is ignore)"

_REPR = reprlib.Repr()
_REPR.maxstring = 100


class TooDeepError(Exception):
    """The document is nested deeper than a message may be."""


class Path:
    """A place in a JSON document, as steps from its root. Rendered only if it is reported."""

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
        """The same place, read as one arm of a union."""
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
    """As many violations were found as are reported."""


class Violations(list[Violation]):
    """Violations, at most `MAX_VIOLATIONS`."""

    def append(self, violation: Violation) -> None:
        """Appends a violation.

        Raises:
            TooManyError: it is the last one.
        """
        super().append(violation)
        if len(self) == MAX_VIOLATIONS:
            raise TooManyError


def extra(where: Path, value: Any, *, is_foreign: bool = False) -> Violation:
    """A member that the message does not have. Scalars are shown, long ones cut."""
    text = "null" if value is None else _REPR.repr(value)
    shown = "" if isinstance(value, (list, dict)) else f", value: {text}"
    if is_foreign:
        shown += FOREIGN_HINT
    return Violation(where, "Extra inputs are not permitted", shown)


class InvalidError(Exception):
    """A document is no valid message.

    The text lists the violations. `param` is the JSON path of the first one, None if that is the
    document itself.
    """

    def __init__(self, violations: list[Violation]) -> None:
        shown = "; ".join(map(str, violations[:MAX_SHOWN]))
        at_least = "at least " if len(violations) == MAX_VIOLATIONS else ""
        heading = f"{at_least}{len(violations)} request validation errors: "
        super().__init__(heading + shown if len(violations) > 1 else shown)
        self.violations = violations
        self.param = violations[0].where.text(arms=False) or None
