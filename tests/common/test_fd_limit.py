"""The limit of open files, in a process of its own: it cannot be raised again."""

from __future__ import annotations

import subprocess
import sys

from rapport.common.fd_limit import RESERVED_FILES

PROGRAM = """
import resource
from rapport.common.fd_limit import max_connections
resource.setrlimit(resource.RLIMIT_NOFILE, (128, 256))
print(max_connections(), *resource.getrlimit(resource.RLIMIT_NOFILE))
"""


def test_limit_is_raised() -> None:
    """As many files as the system allows; some are not for clients."""
    shown = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, check=True)
    assert shown.stdout.split() == [b"%d" % (256 - RESERVED_FILES), b"256", b"256"]
