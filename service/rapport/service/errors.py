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

`rpc/grpc_status.py` says what becomes of them on the wire.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

# A status travels in trailers, of which clients read no more than 8 KiB: the message, where most
# characters that are not ASCII's take three bytes for one, and details, in base64, with the message
# again and each violation. So many bytes may be of the message, and of one and of all violations.
MOST_TOLD = 10
MOST_MESSAGE = 1500
MOST_FIELD = 300
MOST_DESCRIPTION = 600
MOST_OF_ALL = 2000
CUT = " ..."


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
        told = [_bounded(violation) for violation in violations[:MOST_TOLD]]
        super().__init__(shortened(_summary(told, len(violations)), MOST_MESSAGE))
        sizes = accumulate(len(str(violation).encode()) for violation in told)
        fit = sum(size <= MOST_OF_ALL for size in sizes)
        self.violations = tuple(told[: max(fit, 1)])


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


def shortened(text: str, most: int) -> str:
    """As much of a text as takes `most` bytes in gRPC's message, whatever is in it.

    Halves of surrogate pairs, which no message may have, are written out.
    """
    text = text[: most + 1].encode("utf-8", "backslashreplace").decode()
    sizes = accumulate(1 if " " <= c <= "~" and c != "%" else 3 * len(c.encode()) for c in text)
    fit = sum(size <= most for size in sizes)
    return text if fit == len(text) else f"{text[: max(fit - len(CUT), 0)]}{CUT}"


def _bounded(violation: Violation) -> Violation:
    field = shortened(violation.field, MOST_FIELD)
    return Violation(field, shortened(violation.description, MOST_DESCRIPTION))


def _summary(told: Sequence[Violation], count: int) -> str:
    if count == 1:
        return str(told[0])
    listed = "; ".join(map(str, told))
    rest = f"; and {count - len(told)} more" if count > len(told) else ""
    return f"{count} request validation errors: {listed}{rest}"
