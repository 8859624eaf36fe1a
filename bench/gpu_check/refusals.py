"""What the service says where the GPU cannot be used."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import NamedTuple

from bench.gpu_check.subject import Measured, Subject
from bench.server import free_ports

LIMIT_S = 120


class Refusal(NamedTuple):
    """Why the service must not start, and what it then has to say."""

    text: str
    flags: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()


REFUSALS = {
    "a device that is not there": Refusal("there is no device 99", ("--device-id", "99")),
    "a device that is hidden": Refusal("no GPU was found", (), (("CUDA_VISIBLE_DEVICES", ""),)),
    "too little memory": Refusal("the GPU's memory is too small", ("--gpu-memory", "0.001")),
}


def measure(subject: Subject) -> Measured:
    """How each attempt ended: the exit status, and the last line of the log."""
    return {name: attempt(subject, refusal) for name, refusal in REFUSALS.items()}


def attempt(subject: Subject, refusal: Refusal) -> Measured:
    """Starts the service, which is to end by itself."""
    (port,) = free_ports(1)
    flags = ["--model-folder", str(subject.folder()), "--provider", "cuda", *refusal.flags]
    flags += ["--grpc-port", str(port), "--metrics-port", "0"]
    try:
        ended = subprocess.run(
            [sys.executable, "-m", "rapport.service", *flags],
            env=os.environ | dict(refusal.environment),
            capture_output=True,
            text=True,
            check=False,
            timeout=LIMIT_S,
        )
    except subprocess.TimeoutExpired:
        return {"status": None, "said": f"no end after {LIMIT_S} s", "wanted": refusal.text}
    last = next(reversed(ended.stderr.splitlines()), "")
    return {"status": ended.returncode, "said": last, "wanted": refusal.text}
