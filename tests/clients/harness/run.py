"""Runs a client program: each of its case_* functions, and writes a line of JSON on each.

python -P run.py PROGRAM [CASE…]
"""

from __future__ import annotations

import asyncio
import importlib.util
import inspect
import json
import sys
import traceback
from collections.abc import Callable
from typing import Any

MODULE = "program"
PREFIX = "case_"
VALUE_LIMIT = 600


def loaded(program: str) -> dict[str, Any]:
    spec = importlib.util.spec_from_file_location(MODULE, program)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[MODULE] = module  # where annotations are looked up
    spec.loader.exec_module(module)
    return vars(module)


def outcome(case: Callable[[], Any], program: str) -> str | None:
    """What went wrong, if something did."""
    try:
        result = case()
        if inspect.iscoroutine(result):
            asyncio.run(result)
    except BaseException as error:  # noqa: BLE001 - any of it is the case's outcome
        return explain(error, program)
    return None


def explain(error: BaseException, program: str) -> str:
    """The traceback, with the values of the program's own variables."""
    lines = traceback.format_exception(error)
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if frame.f_code.co_filename == program and frame.f_code.co_name != "<module>":
            lines.append(f"in {frame.f_code.co_name}:\n")
            lines += [f"  {name} = {shown(value)}\n" for name, value in frame.f_locals.items()]
    return "".join(lines)


def shown(value: object) -> str:
    try:
        return repr(value)[:VALUE_LIMIT]
    except Exception as error:  # noqa: BLE001 - a repr must not hide the failure
        return f"<{error}>"


def main(program: str, *wanted: str) -> None:
    results, sys.stdout = sys.stdout, sys.stderr  # what a library prints is no result
    for name, case in loaded(program).items():
        if name.startswith(PREFIX) and (not wanted or name.removeprefix(PREFIX) in wanted):
            error = outcome(case, program)
            line = {"case": name.removeprefix(PREFIX), "ok": error is None, "error": error}
            print(json.dumps(line), file=results, flush=True)


main(*sys.argv[1:])
