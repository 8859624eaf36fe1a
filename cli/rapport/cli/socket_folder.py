"""The folder of the Unix socket at which the parts of `rapport serve` meet."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir

from rapport.common.settings import MAX_SOCKET_PATH_BYTES

PREFIX = "rapport-"
SOCKET_NAME = "grpc"
# Where the usual folder's path is too long for a socket's.
FALLBACK = Path("/tmp")  # noqa: S108 - only the parent of a new folder of mode 0700
# What TemporaryDirectory adds to the prefix.
RANDOM_CHARS = 8


def socket_folder() -> TemporaryDirectory[str]:
    """A new folder that only this user can enter, removed in the end.

    It is not in XDG_RUNTIME_DIR, which goes when the user logs out: a server may run on.
    """
    parent = Path(gettempdir()).absolute()
    socket = parent / (PREFIX + "x" * RANDOM_CHARS) / SOCKET_NAME
    fits = len(os.fsencode(socket)) <= MAX_SOCKET_PATH_BYTES
    return TemporaryDirectory(
        prefix=PREFIX, dir=parent if fits else FALLBACK, ignore_cleanup_errors=True
    )
