from __future__ import annotations

import threading
import time

import pytest

from rapport.service.engine.runtime.faults import (
    Fault,
    InjectedCrashError,
    parse_faults,
    with_faults,
)
from tests.service.engine.fake import FakeRunner


def test_a_list_is_read() -> None:
    """Calls are all of them, one, or those from one on."""
    assert parse_faults("") == ()
    assert parse_faults("decode:raise, prefill:oom@3,text:delay=0.5@2+") == (
        Fault("decode", "raise"),
        Fault("prefill", "oom", 0, 3, 3),
        Fault("text", "delay", 0.5, 2),
    )


@pytest.mark.parametrize(
    "text",
    ["decode", "decode:", "decode:melt", "kv:oom", "decode:raise@", "decode:raise=1", "text:delay"],
)
def test_what_is_no_fault_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"fault|delay"):
        parse_faults(text)


@pytest.mark.parametrize(
    ("when", "struck"), [("", [1, 2, 3, 4]), ("@2", [2]), ("@3+", [3, 4]), ("@9", [])]
)
def test_a_fault_strikes_at_its_calls(when: str, struck: list[int]) -> None:
    """Other calls are what they were, results and all."""
    double = with_faults(lambda x: 2 * x, "decode", parse_faults(f"decode:raise{when},prefill:oom"))
    for call in range(1, 5):
        if call in struck:
            with pytest.raises(RuntimeError, match="injected"):
                double(call)
        else:
            assert double(call) == 2 * call


def test_a_point_without_faults_costs_nothing() -> None:
    """Not even a call more."""
    runner = FakeRunner()
    assert with_faults(runner.decode, "decode", parse_faults("prefill:raise")) == runner.decode


@pytest.mark.parametrize(("action", "error"), [("oom", MemoryError), ("die", InjectedCrashError)])
def test_actions_that_raise(action: str, error: type[BaseException]) -> None:
    with pytest.raises(error):
        Fault("decode", action).inject()


def test_actions_that_take_time() -> None:
    """A delay ends, a hang does not."""
    began = time.monotonic()
    Fault("decode", "delay", 0.1).inject()
    assert time.monotonic() - began >= 0.1
    hanging = threading.Thread(target=Fault("decode", "hang").inject, daemon=True)
    hanging.start()
    hanging.join(0.1)
    assert hanging.is_alive()
