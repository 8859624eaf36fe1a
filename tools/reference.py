"""Writes settings.md and errors.md of docs/reference from the code, or checks that they are right.

`python tools/reference.py` writes; `--check` compares instead.
"""

from __future__ import annotations

import inspect
import sys
import types
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ByteSize, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from rapport.cli.serve import ServeSettings
from rapport.common.settings import Settings
from rapport.gateway.config import GatewaySettings
from rapport.service.config import ServiceSettings
from rapport.service.keys.limits import KeyLimits
from rapport.service.rpc.grpc_status import KINDS

PAGES = Path(__file__).resolve().parents[1] / "docs" / "reference"

SETTINGS_HEAD = """\
# Settings

A setting is a flag (`--max-waiting 8`), a variable (`RAPPORT_MAX_WAITING=8`) or a key of a TOML
file (`max_waiting = 8`), in this order of precedence. The file is the one that `--config` names, or
`rapport.toml` in the working directory; a key in it that is no setting is refused. `rapport serve`
takes all of them; `rapport service` and `rapport gateway` take those of both parts and their own.
Secrets are not flags: every user of the machine can read those of a process.

`RAPPORT_CACHE` (`~/.cache/rapport`) is where models are kept.

This page is made from the code by `make reference`.
"""
ERRORS_HEAD = """\
# Errors

A failed RPC has a gRPC status, and a `google.rpc.ErrorInfo` of the domain `rapport.v1` whose reason
says what is wrong. Over REST it is an HTTP status, as `google.rpc.Code` documents. Errors with the
status UNAVAILABLE or RESOURCE_EXHAUSTED have a `RetryInfo` (REST: `Retry-After` and
`retry-after-ms`), errors of fields a `BadRequest` with their paths (REST: `error.param` has the
first), and rate limits a `QuotaFailure`.

This page is made from the code by `make reference`.

| reason | gRPC status | when |
|---|---|---|
"""
SECTIONS = (
    ("Both parts", Settings, ()),
    ("Limits of API keys", KeyLimits, ()),
    ("The service", ServiceSettings, (Settings, KeyLimits)),
    ("The gateway", GatewaySettings, (Settings,)),
    ("`rapport serve` alone", ServeSettings, (ServiceSettings, GatewaySettings)),
)


def main() -> int:
    """Returns the process's exit status: 1 if a page is out of date."""
    pages = {"settings.md": settings_page(), "errors.md": errors_page()}
    if "--check" not in sys.argv[1:]:
        for name, text in pages.items():
            (PAGES / name).write_text(text)
        return 0
    stale = [name for name, text in pages.items() if (PAGES / name).read_text() != text]
    for name in stale:
        print(f"docs/reference/{name} is out of date: run `make reference`")
    return 1 if stale else 0


def settings_page() -> str:
    """One table for each part, in the order of the code."""
    return "\n".join([SETTINGS_HEAD, *(_section(*section) for section in SECTIONS)])


def _section(title: str, model: type[BaseModel], inherited: Iterable[type[BaseModel]]) -> str:
    known = {name for parent in inherited for name in parent.model_fields}
    rows = [
        f"| `{name}` | {_values(field)} | {_default(field)} | {_cell(field.description or '')} |\n"
        for name, field in model.model_fields.items()
        if name not in known
    ]
    return f"## {title}\n\n| setting | values | default | |\n|---|---|---|---|\n{''.join(rows)}"


def _values(field: FieldInfo) -> str:
    names = {
        bool: "`true`, `false`",
        int: "integer",
        float: "number",
        ByteSize: "size, such as `512MiB`",
        Path: "path",
        SecretStr: "secret",
    }
    return ", ".join(_kinds(field.annotation, names))


def _kinds(annotation: Any, names: dict[type, str]) -> Iterator[str]:
    origin = get_origin(annotation)
    if origin is Literal:
        yield ", ".join(f"`{value}`" for value in get_args(annotation))
    elif origin in (Union, types.UnionType):
        for part in get_args(annotation):
            if part is not type(None):
                yield from _kinds(part, names)
    elif origin is not None:  # Annotated
        yield from _kinds(get_args(annotation)[0], names)
    else:
        yield names.get(annotation, "text")


def _default(field: FieldInfo) -> str:
    default = field.default
    if default is PydanticUndefined:
        return "random"
    if default is None or default == "" or default == SecretStr(""):
        return "none"
    if isinstance(default, ByteSize):
        return f"`{default.human_readable(separator='')}`"
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


def errors_page() -> str:
    """One row for each kind of error that a call can end with."""
    rows = [
        f"| `{kind.reason}` | {kind.code.name} | {_cell(_summary(error))} |\n"
        for error, kind in KINDS.items()
    ]
    return ERRORS_HEAD + "".join(rows)


def _summary(error: type[Exception]) -> str:
    if error is Exception:
        return "An unexpected error of the server. The log has it, with the request's id."
    return inspect.cleandoc(error.__doc__ or "").partition("\n\n")[0]


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    sys.exit(main())
