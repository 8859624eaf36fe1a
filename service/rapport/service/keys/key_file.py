"""The file of API keys: TOML with one table per key, under the key's name.

    [batch]
    hash = "9f86d0…"                 # SHA-256 of the key, in hexadecimal digits
    models = ["smollm2-135m-instruct"]
    requests_per_minute = 60

`rapport keys` generates keys of 256 random bits. They cannot be found by trial, so a fast hash
protects them as well as a slow one, which would delay every request.
"""

from __future__ import annotations

import fcntl
import logging
import os
import re
import stat
import tempfile
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import tomlkit
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from rapport.common.settings import describe_error
from rapport.service.keys.limits import KeyLimits

logger = logging.getLogger("rapport.keys")

KEY_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
# 50,000 keys with limits take 15 MiB.
MAX_FILE_BYTES = 64 << 20
MAX_REPORTED_ERRORS = 5


class KeyFileError(ValueError):
    """The file cannot be used. The message is one line that says why."""


class KeyEntry(KeyLimits):
    """One key in the file."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    hash: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    models: list[str] | None = None
    """ids of the models that the key may use; None: all"""
    admin: bool = False
    """whether the key may see the status of the service, and gRPC's channelz"""
    disabled: bool = False


KeyEntries = Mapping[str, KeyEntry]
FileStamp = tuple[int, int, int]
_ENTRIES = TypeAdapter(dict[Annotated[str, Field(pattern=rf"^{KEY_NAME.pattern}$")], KeyEntry])


def load_keys(path: Path) -> KeyEntries:
    """Reads the keys, by name.

    Raises:
        KeyFileError: the file is missing, no regular file, too large, writable by others, written
            while it is read, or malformed.
    """
    with _errors_naming(path):
        return parse_keys(_read(path))


def parse_keys(text: str) -> KeyEntries:
    """Parses the keys, by name.

    Raises:
        KeyFileError: the text is not TOML, a value is invalid, or two names have the same key.
    """
    try:
        document = tomllib.loads(text)
    except RecursionError:
        raise KeyFileError("it is nested too deeply") from None
    except ValueError as error:  # also of integers with thousands of digits
        raise KeyFileError(str(error)) from None
    entries = _validate(document)
    names: dict[str, str] = {}
    for name, entry in entries.items():
        if (other := names.setdefault(entry.hash, name)) != name:
            raise KeyFileError(f"{name}: its hash is that of {other}")
    return entries


def _validate(document: Mapping[str, object]) -> dict[str, KeyEntry]:
    entries: dict[str, KeyEntry] = {}
    errors: list[str] = []
    for name, table in document.items():
        try:
            # One by one: all of a large file would hold the interpreter for a second.
            entries |= _ENTRIES.validate_python({name: table})
        except ValidationError as error:
            errors += map(describe_error, error.errors(include_input=False))
    if errors:
        raise KeyFileError("; ".join(errors[:MAX_REPORTED_ERRORS]))
    return entries


@contextmanager
def edit_key_file(path: Path) -> Iterator[tomlkit.TOMLDocument]:
    """Opens the file for editing; it is written atomically when the `with` block succeeds.

    Comments and order are kept. One process at a time edits the files of a folder.

    Raises:
        KeyFileError: the file is invalid before or after the edit, or cannot be written.
    """
    path = path.resolve()
    with _errors_naming(path), _locked(path.parent):
        text = _read(path) if path.exists() else ""
        parse_keys(text)
        document = tomlkit.parse(text)
        yield document
        changed = tomlkit.dumps(document)
        parse_keys(changed)
        _replace(path, changed)


@contextmanager
def _errors_naming(path: Path) -> Iterator[None]:
    """Turns errors into KeyFileErrors that name the file."""
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
    with open(path, encoding="utf-8", opener=_open_at_once) as file:
        before = os.fstat(file.fileno())
        if not stat.S_ISREG(before.st_mode):
            raise KeyFileError("it is not a regular file")
        if before.st_size > MAX_FILE_BYTES:
            raise KeyFileError(f"it is larger than {MAX_FILE_BYTES >> 20} MiB")
        if before.st_mode & 0o022:
            raise KeyFileError("others may write to it: chmod go-w")
        if before.st_mode & 0o004:
            logger.warning("%s is readable by everybody: it lists models and limits", path)
        text = file.read(MAX_FILE_BYTES)
        if file_stamp(os.fstat(file.fileno())) != file_stamp(before):
            raise KeyFileError("it was written while it was read")
        return text


def _open_at_once(path: str, flags: int) -> int:
    """Opens a file, also a FIFO that nobody writes to, for which opening would wait."""
    return os.open(path, flags | os.O_NONBLOCK)


def file_stamp(status: os.stat_result) -> FileStamp:
    """A value that changes with a file's contents."""
    return status.st_ino, status.st_ctime_ns, status.st_size


def _replace(path: Path, text: str) -> None:
    """Replaces the file, keeping its owner and mode; a new file is for its owner alone."""
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
