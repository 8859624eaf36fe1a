"""Client programs, each as processes in an environment of its own, against a real server.

`make clients` makes the environments and runs these tests. A program is a file in python/ or
node/; each of its cases is a test here.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sysconfig
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from bench.server import Target, rapport
from tests.conftest import MODEL

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
HARNESS = HERE / "harness"
BUILD = ROOT / ".build/clients"

PROGRAMS = sorted(HERE.glob("python/*.py")) + sorted(HERE.glob("node/*.mjs"))
# How the definition of a case begins.
CASE = {
    ".py": re.compile(r"^(?:async )?def case_(\w+)", re.MULTILINE),
    ".mjs": re.compile(r"^export (?:async )?function (\w+)", re.MULTILINE),
}
# A program has some dozens of short requests.
PROGRAM_LIMIT = 600

# Libraries that would report or fetch over the network are told not to.
QUIET = {
    "DO_NOT_TRACK": "1",
    "LANGSMITH_TRACING": "false",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_LOG": "ERROR",
}

pytestmark = [pytest.mark.clients, pytest.mark.timeout(PROGRAM_LIMIT + 60)]


@dataclass(frozen=True, slots=True)
class Run:
    """What came of a program."""

    errors: dict[str, str | None]
    """By case."""
    strayed: str
    """The hosts beyond this machine that it tried to reach."""
    log: str


Runs = Callable[[Path], Run]


@pytest.fixture(scope="session")
def server(cpu_folder: Path) -> Iterator[Target]:
    """A server of the real model: programs look at what it says."""
    del cpu_folder  # it is fetched before, so that the start is quick
    with rapport() as (_, target):
        yield target


@pytest.fixture(scope="session")
def runs(server: Target, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """Runs a program, once."""

    @cache
    def run(program: Path) -> Run:
        home = tmp_path_factory.mktemp(program.stem)
        strayed = home / "strayed"
        strayed.touch()
        done = execute(program, environment(server, home, strayed))
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        errors = {line["case"]: None if line["ok"] else line["error"] for line in lines}
        log = f"exit status {done.returncode}\n{done.stderr[-4000:]}"
        return Run(errors, strayed.read_text(), log)

    return run


def execute(program: Path, variables: dict[str, str]) -> subprocess.CompletedProcess[str]:
    if program.suffix == ".py":
        python = BUILD / program.stem / "bin/python"
        # -P: programs are named after what they import.
        command = [python, "-P", HARNESS / "run.py", program]
    else:
        # Node finds packages from where a program lies, so it is run by its link beside them.
        node = BUILD / "node/bin/node"
        linked = BUILD / "node/programs" / program.name
        command = [node, "--preserve-symlinks", HARNESS / "run.mjs", linked]
    if not command[0].exists():
        pytest.fail("the environment is not made; run make clients", pytrace=False)
    try:
        return subprocess.run(
            command,
            env=variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PROGRAM_LIMIT,
            check=False,
        )
    except subprocess.TimeoutExpired as expired:
        out, err = (
            (part or b"").decode(errors="replace") for part in (expired.output, expired.stderr)
        )
        whole = out[: out.rfind("\n") + 1]
        return subprocess.CompletedProcess(command, -1, whole, f"{err}\nended at the time limit")


def environment(server: Target, home: Path, strayed: Path) -> dict[str, str]:
    assert server.rest is not None
    assert server.grpc is not None
    return QUIET | {
        "PATH": os.defpath,
        "HOME": str(home),
        "LANG": "C.UTF-8",
        "PYTHONPATH": str(HARNESS),
        "NODE_OPTIONS": f"--import={HARNESS / 'guard.mjs'}",
        "RAPPORT_STRAYED": str(strayed),
        "RAPPORT_URL": server.rest,
        "RAPPORT_GRPC": server.grpc,
        "RAPPORT_MODEL": MODEL,
        # Our own protos, and Google's of googleapis-common-protos.
        "RAPPORT_PROTOS": os.pathsep.join([str(ROOT / "protos"), sysconfig.get_path("purelib")]),
    }


def named(program: Path) -> str:
    return f"{program.parent.name}/{program.stem}"


CASES = [
    pytest.param(program, case, id=f"{named(program)}-{case}")
    for program in PROGRAMS
    for case in CASE[program.suffix].findall(program.read_text())
]


@pytest.mark.parametrize(("program", "case"), CASES)
def test_case(runs: Runs, program: Path, case: str) -> None:
    """The case ends well."""
    run = runs(program)
    if case not in run.errors:
        pytest.fail(f"the program ended before the case: {run.log}", pytrace=False)
    if error := run.errors[case]:
        pytest.fail(error, pytrace=False)


@pytest.mark.parametrize("program", PROGRAMS, ids=named)
def test_stays_here(runs: Runs, program: Path) -> None:
    """The program reaches for nothing beyond this machine."""
    assert runs(program).strayed == ""
