"""What can be wrong with a request, whoever sent it.

ServiceError
├── InvalidRequest     fields that break the contract
│   └── PromptTooLong  the prompt alone fills the context
├── Unreadable         bytes that are no message
├── ModelNotFound      no such model here
├── ModelForbidden     not for the caller's key
├── Unauthenticated    no key, or not one of ours
├── RateLimited        the key or its user has had what it may
├── RequestMissing     it did not come
├── ReaderStuck        nobody reads the answer
└── NotReady           loading, draining or dead; try again later

`service/status.py` says what becomes of them on the wire.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

# A status travels in trailers, of which clients read no more than 8 KiB.
MOST_TOLD = 10


@dataclass(frozen=True, slots=True)
class Violation:
    """What is wrong with one field, named by its path in JSON spelling."""

    field: str
    description: str

    def __str__(self) -> str:
        return f"{self.description}, field: '{self.field}'"


class ServiceError(Exception):
    """Base of all errors of the service."""


class InvalidRequest(ServiceError):
    """The request breaks the contract."""

    def __init__(self, violations: Sequence[Violation]) -> None:
        super().__init__(_summary(violations))
        self.violations = tuple(violations[:MOST_TOLD])


class PromptTooLong(InvalidRequest):
    """The prompt leaves no room for a token in the context."""

    def __init__(self, prompt_tokens: int, context_length: int) -> None:
        # Clients look for this text, so it stands without the field's name.
        text = (
            f"The prompt is too long: {prompt_tokens}, "
            f"model maximum context length: {context_length - 1}"
        )
        super().__init__([Violation("messages", text)])
        self.args = (text,)


class Unreadable(ServiceError):
    """The bytes of the request are no message of the RPC."""

    def __init__(self) -> None:
        super().__init__("The request is not the message that the RPC takes")


class ModelNotFound(ServiceError):
    """The model is not served here."""

    def __init__(self) -> None:
        super().__init__("Model not found, inaccessible, and/or not deployed")


class Unauthenticated(ServiceError):
    """The caller shows no key, or not one of ours; it does not learn which."""

    def __init__(self) -> None:
        super().__init__("The API key you provided is invalid.")


class ModelForbidden(ServiceError):
    """The caller's key is not for this model, whether or not there is one."""

    def __init__(self) -> None:
        super().__init__("The API key you provided is not for this model.")


class RateLimited(ServiceError):
    """A key or one of its users has had what it may.

    `subject` is whose limit it is, as in `key:<id>`, `limit` what it says, as in
    `60 requests per minute`. `retry_after` is in seconds.
    """

    def __init__(self, subject: str, limit: str, retry_after: float) -> None:
        whose = subject.partition(":")[0]
        super().__init__(f"The limit of this {whose} is reached: {limit}")
        self.subject = subject
        self.limit = limit
        self.retry_after = retry_after


class RequestMissing(ServiceError):
    """A call that brings no request, or not in time."""


class NotReady(ServiceError):
    """The service takes no requests now. `retry_after` is in seconds."""

    def __init__(self, reason: str, retry_after: float = 1.0) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


class ReaderStuck(ServiceError):
    """The caller took nothing of its answer for so many seconds."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"Nothing of the answer was read for {seconds:g} s")


def _summary(violations: Sequence[Violation]) -> str:
    if len(violations) == 1:
        return str(violations[0])
    listed = "; ".join(map(str, violations[:MOST_TOLD]))
    more = len(violations) - MOST_TOLD
    rest = f"; and {more} more" if more > 0 else ""
    return f"{len(violations)} request validation errors: {listed}{rest}"
