"""Asks everything that is recorded, of servers that are started for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc

from tests.recorded import commands, rest, rpc
from tests.recorded.adapters import Target, rapport
from tests.recorded.spec import COMMON, NO_SERVER, PIECEMEAL, SERVERS, Case, key_file

Ask = Callable[[Case], Any]
# Whether the first answer is as good as any, or the case is asked again.
Suits = Callable[[Case, Any], bool]
TRIES = 4


def answers_of(
    server: str, cases: Sequence[Case], folder: Path, place: Path, suits: Suits
) -> dict[Case, Any]:
    """The answers of one server to its cases, asked one after the other.

    `folder` is the model's, `place` for files of the run's own. What comes in pieces is asked
    again while it does not suit: a stall of the machine joins pieces.
    """
    if server == NO_SERVER:
        # Each is a process of its own and changes nothing for the others.
        with ThreadPoolExecutor(2) as pool:
            runs = pool.map(lambda case: commands.run(case.request), cases)
            return dict(zip(cases, runs, strict=True))
    with ExitStack() as stack:
        ask = asker(server, folder, place, stack)
        return {case: first_that(suits, case, ask) for case in cases}


def first_that(suits: Suits, case: Case, ask: Ask) -> Any:
    """The first answer that suits, or the last of a few."""
    answer = ask(case)
    for _ in range(TRIES - 1 if case.topic in PIECEMEAL else 0):
        if suits(case, answer):
            break
        answer = ask(case)
    return answer


def asker(server: str, folder: Path, place: Path, stack: ExitStack) -> Ask:
    """Asks cases of a server that runs until the stack is left."""
    settings = settings_of(server, folder, place)
    _, target = stack.enter_context(rapport(**settings))
    channel = stack.enter_context(grpc.insecure_channel(str(target.grpc), rpc.ROOM))
    return lambda case: ask_server(case.request, target, channel)


def ask_server(request: dict[str, Any], target: Target, channel: grpc.Channel) -> Any:
    if "metrics" in request:
        addresses = {"service": target.service_metrics, "gateway": target.gateway_metrics}
        return commands.metrics(str(addresses[request["metrics"]]))
    return rpc.ask(channel, request) if "call" in request else rest.ask(str(target.rest), request)


def settings_of(server: str, folder: Path, place: Path) -> dict[str, object]:
    settings = {"model_folder": folder, **COMMON, **SERVERS[server]}
    if server == "keys":
        keys = place / "keys.toml"
        keys.write_text(key_file())
        keys.chmod(0o600)
        settings["api_keys_file"] = keys
    return settings
