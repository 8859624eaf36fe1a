"""Addresses as text."""

from __future__ import annotations


def bracketed(host: str) -> str:
    """The host as it stands before a port: an IPv6 address has brackets around it."""
    return f"[{host}]" if ":" in host else host
