"""What the component schemas are called."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TypeAlias

from google.protobuf.descriptor import Descriptor, EnumDescriptor

Kind: TypeAlias = Descriptor | EnumDescriptor

# The gateway's own.
RESERVED = ("Error",)


class Names:
    """Short names where they are unambiguous, else full ones.

    A message that is both read and written has two schemas, and two names.
    """

    def __init__(self, read: Iterable[Descriptor], written: Iterable[Descriptor]) -> None:
        self._read, self._written = _reachable(read), _reachable(written)
        kinds = (self._read | self._written).values()
        self._short = Counter([*map(_short, kinds), *RESERVED])

    def of(self, kind: Kind, *, read: bool) -> str:
        name = _short(kind)
        if self._short[name] > 1:
            name = kind.full_name
        is_twofold = kind.full_name in self._read and kind.full_name in self._written
        return f"{name}Input" if read and is_twofold and isinstance(kind, Descriptor) else name


def _reachable(roots: Iterable[Descriptor]) -> dict[str, Kind]:
    """The messages, and all messages and enums of their fields, by full name."""
    found: dict[str, Kind] = {}
    ahead: list[Kind | None] = list(roots)
    while ahead:
        kind = ahead.pop()
        if kind is not None and kind.full_name not in found:
            found[kind.full_name] = kind
            fields = kind.fields if isinstance(kind, Descriptor) else []
            ahead += [part for field in fields for part in (field.message_type, field.enum_type)]
    return found


def _short(kind: Kind) -> str:
    """The name inside its package."""
    return kind.full_name.removeprefix(f"{kind.file.package}.")
