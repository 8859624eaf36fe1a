"""The errors of the service, and the limits of what their messages hold.

ServiceError
├── InvalidRequestError     fields break the contract
│   └── PromptTooLongError  the prompt alone fills the context
├── UnreadableRequestError  the bytes are not the message of the RPC
├── ModelNotFoundError      no such model is served
├── ModelForbiddenError     the key may not use the model
├── AdminKeyRequiredError   the key may not see the status of the service
├── UnauthenticatedError    the key is missing or unknown
├── RateLimitedError        a limit of the key or of its user is reached
├── RequestMissingError     the request message did not arrive
├── SlowReaderError         the client stopped reading the answer
└── NotReadyError           loading, draining or dead; try again later

`rpc/grpc_status.py` maps each of them to a gRPC status.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

# A status travels in trailers, of which clients read no more than 8 KiB. Trailers hold the message,
# where most characters outside ASCII are percent-encoded as three bytes for each byte, and the
# details in base64, which repeat the message and list each violation.
MAX_VIOLATIONS = 10
MAX_MESSAGE_BYTES = 1500
MAX_FIELD_BYTES = 300
MAX_DESCRIPTION_BYTES = 600
MAX_VIOLATIONS_BYTES = 2000
ELLIPSIS = " ..."


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """What is wrong with one field, named by its path in JSON spelling."""

    field: str
    description: str

    def __str__(self) -> str:
        return f"{self.description}, field: '{self.field}'"


class ServiceError(Exception):
    """Base of all errors of the service."""


class InvalidRequestError(ServiceError):
    """The request breaks the contract. `message` stands in place of a summary of violations."""

    def __init__(self, violations: Sequence[FieldViolation], message: str | None = None) -> None:
        listed = [_truncated(violation) for violation in violations[:MAX_VIOLATIONS]]
        summary = _summary(listed, len(violations)) if message is None else message
        super().__init__(truncate(summary, MAX_MESSAGE_BYTES))
        sizes = accumulate(len(str(violation).encode()) for violation in listed)
        fitting = sum(size <= MAX_VIOLATIONS_BYTES for size in sizes)
        self.violations = tuple(listed[: max(fitting, 1)])


class PromptTooLongError(InvalidRequestError):
    """The prompt leaves no room for a token in the context."""

    def __init__(
        self,
        prompt_tokens: int,
        context_length: int,
        *,
        field: str = "messages",
        at_least: bool = False,
    ) -> None:
        """With `at_least`, the tokens were not all counted."""
        # Clients match this text, so the message has it without the field's name.
        tokens = f"at least {prompt_tokens}" if at_least else str(prompt_tokens)
        text = (
            f"The prompt is too long: {tokens}, model maximum context length: {context_length - 1}"
        )
        super().__init__([FieldViolation(field, text)], text)


class UnreadableRequestError(ServiceError):
    """The bytes of the request cannot be parsed as the message of the RPC."""

    def __init__(self, text: str = "The request is not the message that the RPC takes") -> None:
        super().__init__(text)


class ModelNotFoundError(ServiceError):
    """No such model is served. The message names those that are, where it may."""

    def __init__(self, *served: str) -> None:
        # Clients match this text.
        text = "Model not found, inaccessible, and/or not deployed"
        super().__init__(f"{text}; served: {', '.join(served)}" if served else text)
        self.served = served


class UnauthenticatedError(ServiceError):
    """The API key is missing or unknown."""

    def __init__(self, *, missing: bool = False) -> None:
        super().__init__(
            "You did not provide an API key: the Authorization header should be 'Bearer KEY'."
            if missing
            else "The API key you provided is invalid."
        )


class ModelForbiddenError(ServiceError):
    """The key may not use this model, whether or not it exists."""

    def __init__(self) -> None:
        super().__init__("The API key you provided is not for this model.")


class AdminKeyRequiredError(ServiceError):
    """The key is valid, and not one of an administrator (`admin` in the key file)."""

    def __init__(self) -> None:
        super().__init__("The API key you provided is not an admin key.")


class RateLimitedError(ServiceError):
    """A limit of the key, or of one of its users, is reached.

    Attributes:
        subject: whose limit it is, such as `key:<id>`.
        limit: the limit as text, such as `60 requests per minute`.
        retry_after: when to try again, in seconds.
    """

    def __init__(self, subject: str, limit: str, retry_after: float) -> None:
        kind = subject.partition(":")[0]
        super().__init__(f"The limit of this {kind} is reached: {limit}")
        self.subject = subject
        self.limit = limit
        self.retry_after = retry_after


class RequestMissingError(ServiceError):
    """The call brought no request message, or not in time."""


class NotReadyError(ServiceError):
    """The service takes no requests now. `retry_after` is in seconds."""

    def __init__(self, reason: str, retry_after: float = 1.0) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


class SlowReaderError(ServiceError):
    """The client read nothing of the answer for so many seconds."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"Nothing of the answer was read for {seconds:g} s")


def truncate(text: str, max_bytes: int) -> str:
    """Cuts a text to what takes at most `max_bytes` in a gRPC message, percent-encoding included.

    Lone surrogates, which no message may have, are written as escapes.
    """
    text = text[: max_bytes + 1].encode("utf-8", "backslashreplace").decode()
    sizes = accumulate(1 if " " <= c <= "~" and c != "%" else 3 * len(c.encode()) for c in text)
    fitting = sum(size <= max_bytes for size in sizes)
    if fitting == len(text):
        return text
    return f"{text[: max(fitting - len(ELLIPSIS), 0)]}{ELLIPSIS}"


def _truncated(violation: FieldViolation) -> FieldViolation:
    field = truncate(violation.field, MAX_FIELD_BYTES)
    return FieldViolation(field, truncate(violation.description, MAX_DESCRIPTION_BYTES))


def _summary(listed: Sequence[FieldViolation], count: int) -> str:
    if count == 1:
        return str(listed[0])
    text = "; ".join(map(str, listed))
    rest = f"; and {count - len(listed)} more" if count > len(listed) else ""
    return f"{count} request validation errors: {text}{rest}"
