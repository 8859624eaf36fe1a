"""Collects what is wrong with a schema, and what of it cannot be enforced."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from rapport.service.errors import FieldViolation, InvalidRequestError
from rapport.service.structured_output.json_schema.engine_limits import NOT_SUPPORTED

T = TypeVar("T")
Found = dict[FieldViolation, bool]
"""Violations in the order in which they were found, and whether each is one in any case."""


class Findings:
    """What was found in one document. If it is `strict`, all of it has to be enforced."""

    def __init__(self, *, strict: bool) -> None:
        self.strict = strict
        self._found: Found = {}

    def reject(self, path: str, description: str) -> None:
        """Notes that the schema is wrong, or that no value satisfies it."""
        self._found[FieldViolation(path, description)] = True

    def leave_out(self, path: str, reason: str) -> None:
        """Notes that the keyword at a path cannot be enforced."""
        self._found.setdefault(FieldViolation(path, f"{NOT_SUPPORTED}: {reason}"), False)

    def collect(self, step: Callable[[], T]) -> tuple[T, Found]:
        """What a step returns, and what is found meanwhile. That is not noted."""
        outer, self._found = self._found, {}
        result = step()
        found, self._found = self._found, outer
        return result, found

    def add(self, found: Found) -> None:
        """Notes what was collected."""
        self._found.update(found)

    @property
    def rejected(self) -> bool:
        """Whether there is no grammar."""
        return any(self._found.values()) or (self.strict and bool(self._found))

    @property
    def left_out(self) -> tuple[str, ...]:
        """The paths of what is not enforced."""
        return tuple(dict.fromkeys(violation.field for violation in self._found))

    def raise_if_rejected(self) -> None:
        """Raises `InvalidRequestError` if there is no grammar."""
        if self.rejected:
            raise InvalidRequestError(
                [each for each, always in self._found.items() if always or self.strict]
            )
