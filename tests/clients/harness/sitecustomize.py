"""Keeps a client on this machine: what it tries to reach beyond is refused and written down.

Python imports this by its name in every process that has this folder in PYTHONPATH.
"""

from __future__ import annotations

import ipaddress
import os
import sys
from pathlib import Path

HERE = {"localhost", "", None}


def watch(event: str, details: tuple[object, ...]) -> None:
    if event == "socket.getaddrinfo":
        host = details[0]
    elif event in {"socket.connect", "socket.sendto"} and isinstance(details[1], tuple):
        host = details[1][0]
    else:
        return
    if isinstance(host, bytes):
        host = host.decode()
    if host not in HERE and not is_loopback(str(host)):
        with Path(os.environ["RAPPORT_STRAYED"]).open("a") as strayed:
            strayed.write(f"{host}\n")
        raise ConnectionRefusedError(f"{host} is not this machine")


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


sys.addaudithook(watch)
