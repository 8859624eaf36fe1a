"""The API keys that callers may use: those of the settings and those of the key file."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from rapport.service.keys.key_file import (
    FileStamp,
    KeyEntries,
    KeyFileError,
    file_stamp,
    load_keys,
)
from rapport.service.keys.limits import KeyLimits

logger = logging.getLogger("rapport.keys")

# How often the file is checked for changes, at most.
CHECK_INTERVAL_S = 1.0
# How long a caller waits for a change of the file to be read.
MAX_WAIT_S = 0.1
# The first dozen hexadecimal digits of a key's hash identify the key and do not reveal it.
KEY_ID_LENGTH = 12


@dataclass(frozen=True, slots=True)
class Key:
    """A key, known by its SHA-256 in hexadecimal digits; the hash of anonymous callers is empty."""

    hash: str
    limits: KeyLimits
    models: tuple[str, ...] | None = None
    """The ids of the models that it may use; None: all."""
    admin: bool = False
    """Whether it may see what the service does for others. Keys of the settings may not."""

    @property
    def id(self) -> str:
        """The key's name in logs. It stays the same when the key moves to the file."""
        return self.hash[:KEY_ID_LENGTH]


class KeyStore:
    """Finds the key that a caller presents. For one event loop.

    The file is checked when a key is looked up, at most once in CHECK_INTERVAL_S seconds, and read
    in a thread. While it cannot be used, its last good state holds. Its keys take precedence over
    those of the settings.
    """

    def __init__(
        self,
        keys: Iterable[str] = (),
        key_file: Path | None = None,
        defaults: KeyLimits | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Takes the keys of the settings, the file, and the limits of keys that set none.

        Raises:
            KeyFileError: the file cannot be used.
        """
        self._key_file = key_file
        self._defaults = defaults or KeyLimits()
        self._clock = clock
        self._settings_keys = [Key(hash_key(key.encode()), self._defaults) for key in keys]
        self._keys = {key.hash: key for key in self._settings_keys}
        self._stamp: FileStamp | None = None
        self._last_error = ""
        self._checked_at = clock()
        self._check: asyncio.Task[None] | None = None
        if key_file is not None:
            self._load(key_file)

    async def find(self, presented: bytes) -> Key | None:
        """The key, or None if it is unknown.

        Keys are looked up by their hash, so that the time tells nothing of a key.
        """
        if self._key_file is not None:
            await self._check_file(self._key_file)
        return self._keys.get(hash_key(presented))

    async def _check_file(self, path: Path) -> None:
        """Applies a change of the file. A file that takes long is not waited for."""
        now = self._clock()
        is_idle = self._check is None or self._check.done()
        if is_idle and now - self._checked_at >= CHECK_INTERVAL_S:
            self._checked_at = now
            self._check = asyncio.create_task(asyncio.to_thread(self._reload, path))
        if self._check is not None and not self._check.done():
            patience_s = max(0.0, self._checked_at + MAX_WAIT_S - now)
            await asyncio.wait({self._check}, timeout=patience_s)

    def _reload(self, path: Path) -> None:
        try:
            self._load(path)
        except KeyFileError as error:
            if str(error) != self._last_error:
                self._last_error = str(error)
                logger.error("API keys stay as they were: %s", error)  # noqa: TRY400 - the line is for operators

    def _load(self, path: Path) -> None:
        """Reads the file if it has changed since it was last read successfully."""
        stamp = _stamp_of(path)
        if stamp is not None and stamp == self._stamp:
            return
        entries = load_keys(path)
        self._stamp = stamp
        self._last_error = ""
        self._keys = {key.hash: key for key in self._merged(entries)}
        logger.info("%d API keys in %s", len(entries), path)

    def _merged(self, entries: KeyEntries) -> Iterator[Key]:
        for entry in entries.values():
            if not entry.disabled:
                models = None if entry.models is None else tuple(entry.models)
                limits = KeyLimits.of(entry, self._defaults)
                yield Key(entry.hash, limits, models, entry.admin)
        in_file = {entry.hash for entry in entries.values()}
        yield from (key for key in self._settings_keys if key.hash not in in_file)


def hash_key(key: bytes) -> str:
    """The hash of a key as the key file has it."""
    return sha256(key).hexdigest()


def _stamp_of(path: Path) -> FileStamp | None:
    """None if the file cannot be examined."""
    try:
        return file_stamp(path.stat())
    except OSError:
        return None
