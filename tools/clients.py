"""Makes the environments of the client programs in tests/clients: one for each, under .build.

    python tools/clients.py [NAME…]

An environment is made again when the pins in the program's folder or this Python change.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import venv
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CLIENTS = ROOT / "tests/clients"
BUILD = ROOT / ".build/clients"
NODE = "node"


def main(wanted: Sequence[str]) -> None:
    names = [*sorted(path.stem for path in CLIENTS.glob("python/*.txt")), NODE]
    if unknown := set(wanted) - set(names):
        sys.exit(f"no such client: {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for line in pool.map(make, wanted or names):
            print(line, flush=True)


def make(name: str) -> str:
    """Makes the environment, unless it is there as the pins say."""
    began = time.monotonic()
    home = BUILD / name
    pins = [CLIENTS / f"python/{name}.txt"]
    if name == NODE:
        pins = [CLIENTS / "node/node.txt", CLIENTS / "node/package.json"]
    state = "".join([sys.version, *(path.read_text() for path in pins)])
    stamp = home / ".made"
    if stamp.exists() and stamp.read_text() == state:
        return f"{name}: there"
    shutil.rmtree(home, ignore_errors=True)
    install_python(home, pins[0])
    if name == NODE:
        install_node(home, pins[1])
    stamp.write_text(state)
    return f"{name}: made in {time.monotonic() - began:.0f} s"


def install_python(home: Path, pins: Path) -> None:
    venv.create(home, symlinks=True)
    pip = [sys.executable, "-m", "pip", "--python", str(home / "bin/python")]
    run([*pip, "install", "--quiet", "--requirement", str(pins)])


def install_node(home: Path, pins: Path) -> None:
    """Node itself is in the environment, by the wheel that carries it."""
    shutil.copy(pins, home)
    (home / "programs").symlink_to(CLIENTS / "node")
    npm = [str(home / "bin/npm"), "install", "--no-package-lock", "--ignore-scripts"]
    path = f"{home / 'bin'}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    run([*npm, "--no-audit", "--no-fund", "--loglevel=error"], cwd=home, PATH=path)


def run(command: Sequence[str], cwd: Path = ROOT, **variables: str) -> None:
    done = subprocess.run(
        command,
        cwd=cwd,
        env=os.environ | variables,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")


if __name__ == "__main__":
    main(sys.argv[1:])
