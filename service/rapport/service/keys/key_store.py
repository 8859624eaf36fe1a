"""The keys that callers may show: those of the settings, and those of a file that may change."""

from __future__ import annotations

import hmac
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from rapport.service.keys import key_file as keys_file
from rapport.service.keys.key_file import Entries, KeyFileError
from rapport.service.keys.limits import Limits

logger = logging.getLogger("rapport.keys")

# Seconds between two looks at the file.
CHECK_EVERY = 1.0
# A dozen hexadecimal digits of a key's hash name the key and give nothing away.
ID_LENGTH = 12

Stamp = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Key:
    """A key that is known by its SHA-256, in hexadecimal digits; that of nobody is empty."""

    hash: str
    limits: Limits
    models: tuple[str, ...] | None = None
    """The ids of models that it may use; None: all."""

    @property
    def id(self) -> str:
        """What the key is called in logs; it stays when the key moves to the file."""
        return self.hash[:ID_LENGTH]


class Keyring:
    """Finds the key that a caller shows.

    The file is looked at when a key is sought, at most once in CHECK_EVERY seconds. While it
    cannot be used its last good state holds. Its keys hide those of the settings.
    """

    def __init__(
        self,
        given: Iterable[str] = (),
        file: Path | None = None,
        defaults: Limits | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`defaults` are the limits of keys that say nothing else.

        Raises:
            KeyFileError: the file cannot be used.
        """
        self._file = file
        self._defaults = defaults or Limits()
        self._clock = clock
        self._given = [Key(hash_of(key.encode()), self._defaults) for key in given]
        self._keys = tuple(self._given)
        self._stamp: Stamp | None = None
        self._complaint = ""
        self._checked_at = clock()
        if file is not None:
            self._load(file)

    def find(self, shown: bytes) -> Key | None:
        """The key, if it is one of ours. The time taken is the same for all that are none."""
        self._refresh()
        sought = hash_of(shown)
        matches = [key for key in self._keys if hmac.compare_digest(key.hash, sought)]
        return matches[0] if matches else None

    def _refresh(self) -> None:
        now = self._clock()
        if self._file is None or now - self._checked_at < CHECK_EVERY:
            return
        self._checked_at = now
        try:
            self._load(self._file)
        except KeyFileError as error:
            if str(error) != self._complaint:
                self._complaint = str(error)
                logger.error("API keys stay as they were: %s", error)  # noqa: TRY400 - the line is for operators

    def _load(self, file: Path) -> None:
        """Reads the file if it has changed since it was last read well."""
        stamp = stamp_of(file)
        if stamp is not None and stamp == self._stamp:
            return
        entries = keys_file.load(file)
        self._stamp = stamp
        self._complaint = ""
        self._keys = tuple(self._all(entries))
        logger.info("%d API keys in %s", len(entries), file)

    def _all(self, entries: Entries) -> Iterator[Key]:
        for entry in entries.values():
            if not entry.disabled:
                models = None if entry.models is None else tuple(entry.models)
                yield Key(entry.hash, Limits.of(entry, self._defaults), models)
        hidden = {entry.hash for entry in entries.values()}
        yield from (key for key in self._given if key.hash not in hidden)


def hash_of(key: bytes) -> str:
    """As it stands in the file of keys."""
    return sha256(key).hexdigest()


def stamp_of(file: Path) -> Stamp | None:
    """What is another when the file is; None if it cannot be looked at."""
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_ino, status.st_ctime_ns, status.st_size
