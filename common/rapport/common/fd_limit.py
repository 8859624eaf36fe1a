"""How many files, and so connections, the process may have open."""

from __future__ import annotations

import sys

if sys.platform != "win32":
    import resource

# Nobody opens so many connections, and some systems know no more.
MAX_FILES = 1 << 16
# What is open beside connections of clients: logs, keys, metrics, what the parts say to each other.
RESERVED_FILES = 64


def max_connections() -> int:
    """Connections that clients may have: as many as the system lets this process ask for."""
    if sys.platform == "win32":
        return MAX_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < MAX_FILES:
        soft = MAX_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_FILES)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    elif soft == resource.RLIM_INFINITY:
        soft = MAX_FILES
    return max(soft - RESERVED_FILES, 1)
