"""Calls as models write them."""

from __future__ import annotations

from rapport.service.tools.call_format import HERMES


def hermes_call(name: str, arguments: str) -> str:
    """A call in the usual format. `arguments` is JSON text."""
    return HERMES.write([(name, arguments)])
