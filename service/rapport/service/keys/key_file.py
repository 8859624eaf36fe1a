"""The file of API keys: TOML, one table for each key, by its name.

    [batch]
    hash = "9f86d0…"                 # SHA-256 of the key, in hexadecimal digits
    models = ["smollm2-135m-instruct"]
    requests_per_minute = 60

Keys are made here, of 256 random bits. Nobody finds those by trying, so a hash that is
quick to compute gives them away as little as a slow one, which every request would wait for.
"""

from __future__ import annotations

import fcntl
import logging
import os
import re
import tempfile
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import tomlkit
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from rapport.common.settings import told
from rapport.service.keys.limits import Limits

logger = logging.getLogger("rapport.keys")

NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


class KeyFileError(ValueError):
    """The file cannot be used; the text is one line that says why."""


class Entry(Limits):
    """One key of the file."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    hash: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    models: list[str] | None = None
    """ids of the models that the key may use; without, all"""
    disabled: bool = False


Entries = Mapping[str, Entry]
_ENTRIES = TypeAdapter(dict[Annotated[str, Field(pattern=rf"^{NAME.pattern}$")], Entry])


def load(path: Path) -> Entries:
    """The keys by their names.

    Raises:
        KeyFileError: the file is not there, not fit to be trusted, or not as it should be.
    """
    with _told_of(path):
        return parse(_read(path))


def parse(text: str) -> Entries:
    """The keys by their names.

    Raises:
        KeyFileError: it is no TOML, a value is wrong, or two names are for one key.
    """
    try:
        entries = _ENTRIES.validate_python(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise KeyFileError(str(error)) from None
    except ValidationError as error:
        errors = error.errors(include_input=False)
        raise KeyFileError("; ".join(map(told, errors))) from None
    names: dict[str, str] = {}
    for name, entry in entries.items():
        if (other := names.setdefault(entry.hash, name)) != name:
            raise KeyFileError(f"{name}: its hash is that of {other}")
    return entries


@contextmanager
def changing(path: Path) -> Iterator[tomlkit.TOMLDocument]:
    """The file to change, which is written when the `with` ends well: whole, or not at all.

    Comments and order stay. One process at a time changes the files of a folder.

    Raises:
        KeyFileError: it cannot be used as it is or as it would become, or not be written.
    """
    path = path.resolve()
    with _told_of(path), _locked(path.parent):
        text = _read(path) if path.exists() else ""
        parse(text)
        document = tomlkit.parse(text)
        yield document
        changed = tomlkit.dumps(document)
        parse(changed)
        _replace(path, changed)


@contextmanager
def _told_of(path: Path) -> Iterator[None]:
    """Has errors tell of the file."""
    try:
        yield
    except OSError as error:
        raise KeyFileError(f"{path}: {error.strerror or error}") from None
    except (KeyFileError, UnicodeDecodeError) as error:
        raise KeyFileError(f"{path}: {error}") from None


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read(path: Path) -> str:
    with path.open(encoding="utf-8") as file:
        mode = os.fstat(file.fileno()).st_mode
        if mode & 0o022:
            raise KeyFileError("others may write to it: chmod go-w")
        if mode & 0o004:
            logger.warning("everybody may read %s, which tells of models and limits", path)
        return file.read()


def _replace(path: Path, text: str) -> None:
    """Puts a file in the place of another that has its owner and mode, or the owner's alone."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            if path.exists():
                before = path.stat()
                os.fchown(descriptor, before.st_uid, before.st_gid)
                os.fchmod(descriptor, before.st_mode & 0o777)
            file.write(text)
            file.flush()
            os.fsync(descriptor)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
