"""Lists what the run time depends on in docs/dependencies.md, or checks that the list is right.

Versions are those of constraints.txt, licences what the installed packages say, reasons those of
tools/dependencies.toml. `--check` compares instead. It speaks of Linux on x86-64.
"""

from __future__ import annotations

import platform
import sys
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "dependencies.md"
PLATFORM = {"sys_platform": "linux", "platform_machine": "x86_64", "python_version": "3.11"}

HEAD = """\
# Run-time dependencies

What `pip install rapport` brings on Linux x86-64: the versions that are tested (constraints.txt),
the licences that the packages name, why each is here and what it touches. `make lint` checks that
the list is complete; `python tools/dependencies.py` writes it.

`make audit` looks all of them up in PyPI's database of known vulnerabilities. Where that cannot be
reached it fails: a look-up that was not made is no clean result.
"""


def main() -> int:
    """Returns the process's exit status: 1 when a check fails."""
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        print("tools/dependencies.py: the list is of Linux x86-64, nothing is done here")
        return 0
    page = made()
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(page)
    elif page != PAGE.read_text():
        print("docs/dependencies.md is out of date: run `python tools/dependencies.py`")
        return 1
    return 0


def made() -> str:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    reasons = tomllib.loads((ROOT / "tools" / "dependencies.toml").read_text())
    direct = set(named(project["dependencies"]))
    if direct != reasons.keys():
        wrong = ", ".join(sorted(direct ^ reasons.keys()))
        sys.exit(f"tools/dependencies.toml and pyproject.toml differ in {wrong}")
    brought = brought_by(direct)
    versions = pinned()
    lines = [HEAD, "| package | version | licence | why | touches |", "|---|---|---|---|---|"]
    for name in sorted(direct):
        told = (versions.get(name, "any"), licence(name), reasons[name]["why"])
        lines.append(f"| {' | '.join((name, *told, reasons[name]['touches']))} |")
    lines += ["\nThese bring along:\n", "| package | version | licence | by |", "|---|---|---|---|"]
    for name in sorted(brought.keys() - direct):
        told = (versions.get(name, "any"), licence(name), ", ".join(sorted(brought[name])))
        lines.append(f"| {' | '.join((name, *told))} |")
    return "\n".join(lines) + "\n"


def brought_by(names: set[str]) -> dict[str, set[str]]:
    """All that packages require, directly or not, and which of all of them do."""
    found: dict[str, set[str]] = {}
    waiting = sorted(names)
    seen = set(names)
    while waiting:
        name = waiting.pop()
        for required in named(metadata.requires(name) or []):
            found.setdefault(required, set()).add(name)
            if required not in seen:
                seen.add(required)
                waiting.append(required)
    return found


def named(requirements: list[str]) -> Iterator[str]:
    for line in requirements:
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate({**PLATFORM, "extra": ""}):
            yield canonicalize_name(requirement.name)


def pinned() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().split()
    pairs = (line.partition("==") for line in lines)
    return {canonicalize_name(name): version for name, _, version in pairs}


def licence(name: str) -> str:
    told = metadata.metadata(name)
    classifiers = [
        text.rpartition(" :: ")[2]
        for text in told.get_all("Classifier") or []
        if text.startswith("License ::")
    ]
    return told["License-Expression"] or "; ".join(classifiers) or told["License"] or "not named"


if __name__ == "__main__":
    sys.exit(main())
