"""Writes docs/dependencies.md and requirements-cpu.txt, and checks version ranges.

The page is the list of run-time dependencies. Versions come from constraints.txt, licences from the
installed packages, reasons from tools/dependencies.toml. requirements-cpu.txt has the same with
plain onnxruntime. `--check` compares both instead of writing them. Every dependency of both
distributions must have a range, and the pinned versions must lie in them. The page describes
Linux x86-64; elsewhere nothing is done.
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
PROJECTS = (ROOT / "pyproject.toml", ROOT / "protos" / "pyproject.toml")
PAGE = ROOT / "docs" / "dependencies.md"
CPU_REQUIREMENTS = ROOT / "requirements-cpu.txt"
GPU_RUNTIME, CPU_RUNTIME = "onnxruntime-gpu", "onnxruntime"
# Security fixes of these come only as new major versions, so they have no upper bound.
NO_UPPER_BOUND = {"cryptography", "pip"}
OWN = "rapport-"  # our distributions, which are installed from the checkout
PLATFORM = {"sys_platform": "linux", "platform_machine": "x86_64", "python_version": "3.11"}

HEAD = """\
# Run-time dependencies

What `pip install ./protos .` installs on Linux x86-64: the tested versions (constraints.txt), the
licences that the packages name, why each is here and what it touches. `make lint` checks that
the list is complete; `python tools/dependencies.py` writes it.

`make audit` looks all of them up in PyPI's database of known vulnerabilities. Where that cannot be
reached it fails: a look-up that was not made is no clean result.
"""

CPU_HEAD = """\
# What Rapport needs at run time, with onnxruntime for CPUs alone: docs/deploy.md, Install.
# Made from pyproject.toml by `python tools/dependencies.py`.
"""


def main() -> int:
    """Returns the exit status: 1 if a range is missing or the page is out of date."""
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        print("tools/dependencies.py: the list describes Linux x86-64, nothing is done here")
        return 0
    problems = range_problems()
    if problems:
        print("\n".join(problems))
        return 1
    files = {PAGE: render_page(), CPU_REQUIREMENTS: CPU_HEAD + "\n".join(cpu_requirements()) + "\n"}
    if "--check" not in sys.argv[1:]:
        for path, text in files.items():
            path.write_text(text)
        return 0
    stale = [
        path.name for path, text in files.items() if not path.exists() or path.read_text() != text
    ]
    if stale:
        print(f"{' and '.join(stale)}: out of date, run `python tools/dependencies.py`")
    return int(bool(stale))


def cpu_requirements() -> list[str]:
    """The run-time dependencies with plain onnxruntime on every platform."""
    required = [Requirement(line) for line in run_time_requirements()]
    for requirement in required:
        if requirement.name == CPU_RUNTIME:
            requirement.marker = None
    return sorted({str(each) for each in required if each.name != GPU_RUNTIME})


def run_time_requirements() -> list[str]:
    """Those of both distributions, but for each other."""
    projects = [tomllib.loads(path.read_text())["project"] for path in PROJECTS]
    lines = [line for project in projects for line in project["dependencies"]]
    return [line for line in lines if not line.startswith(OWN)]


def range_problems() -> list[str]:
    """One line for each requirement without a range, or whose range excludes the pinned version."""
    problems = []
    pins = pinned()
    for path in PROJECTS:
        project = tomllib.loads(path.read_text())["project"]
        run_time = project["dependencies"]
        extras = [
            line for extra in project.get("optional-dependencies", {}).values() for line in extra
        ]
        for line in run_time + extras:
            requirement = Requirement(line)
            name = canonicalize_name(requirement.name)
            if requirement.name.startswith(OWN):
                continue
            operators = {specifier.operator for specifier in requirement.specifier}
            needed = {">=", "<"} if line in run_time and name not in NO_UPPER_BOUND else {">="}
            if not needed <= operators:
                problems.append(f"{path}: {line} has no {' and '.join(sorted(needed - operators))}")
            elif name in pins and not requirement.specifier.contains(pins[name]):
                problems.append(f"{path}: {line} excludes {pins[name]} of constraints.txt")
    return problems


def render_page() -> str:
    project = tomllib.loads(PROJECTS[0].read_text())["project"]
    reasons = tomllib.loads((ROOT / "tools" / "dependencies.toml").read_text())
    direct = set(named(project["dependencies"]))
    if direct != reasons.keys():
        wrong = ", ".join(sorted(direct ^ reasons.keys()))
        sys.exit(f"tools/dependencies.toml and pyproject.toml differ in {wrong}")
    brought = brought_by(direct)
    versions = pinned()
    lines = [HEAD, "| package | version | licence | why | touches |", "|---|---|---|---|---|"]
    for name in sorted(direct):
        columns = (name, versions.get(name, "any"), licence(name))
        lines.append(
            f"| {' | '.join((*columns, reasons[name]['why'], reasons[name]['touches']))} |"
        )
    lines += [
        "\nTheir own dependencies:\n",
        "| package | version | licence | by |",
        "|---|---|---|---|",
    ]
    for name in sorted(brought.keys() - direct):
        columns = (name, versions.get(name, "any"), licence(name))
        lines.append(f"| {' | '.join((*columns, ', '.join(sorted(brought[name]))))} |")
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
        if requirement.name.startswith(OWN):
            continue
        if requirement.marker is None or requirement.marker.evaluate({**PLATFORM, "extra": ""}):
            yield canonicalize_name(requirement.name)


def pinned() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().split()
    pairs = (line.partition("==") for line in lines)
    return {canonicalize_name(name): version for name, _, version in pairs}


def licence(name: str) -> str:
    fields = metadata.metadata(name)
    classifiers = [
        text.rpartition(" :: ")[2]
        for text in fields.get_all("Classifier") or []
        if text.startswith("License ::")
    ]
    return (
        fields["License-Expression"] or "; ".join(classifiers) or fields["License"] or "not named"
    )


if __name__ == "__main__":
    sys.exit(main())
