"""Checks that the pinned dependencies are to be had, as wheels, for each supported platform.

It needs uv, which alone resolves for platforms other than its own: `make platforms` installs it.
"""

from __future__ import annotations

import os
import subprocess
import sys

from tools.dependencies import CPU_REQUIREMENTS, ROOT, run_time_requirements

UV = ROOT / ".build/platforms/bin/uv"
# The oldest and the newest Python that wheels are looked for.
PYTHONS = ("3.11", "3.14")
# As uv calls them. A manylinux has the version of glibc.
PLATFORMS = ("x86_64-manylinux_2_31", "aarch64-manylinux_2_31", "aarch64-apple-darwin")
MACOS = {"MACOSX_DEPLOYMENT_TARGET": "14.0"}


def main() -> int:
    """Returns the exit status: 1 if a pin cannot be had somewhere."""
    default, cpu = "\n".join(run_time_requirements()), CPU_REQUIREMENTS.read_text()
    targets = [(default, platform) for platform in PLATFORMS] + [(cpu, PLATFORMS[0])]
    failed = False
    for requirements, platform in targets:
        for python in PYTHONS:
            problem = resolve(requirements, platform, python)
            kind = "plain onnxruntime" if requirements is cpu else "default"
            print(f"{platform}, Python {python}, {kind}: {problem or 'resolves'}", flush=True)
            failed |= bool(problem)
    return int(failed)


def resolve(requirements: str, platform: str, python: str) -> str:
    """What is wrong, or nothing."""
    target = ["--python-platform", platform, "--python-version", python]
    flags = ["--constraint", "constraints.txt", "--only-binary", ":all:", "--quiet"]
    done = subprocess.run(
        [str(UV), "pip", "compile", *target, *flags, "-"],
        cwd=ROOT,
        env=os.environ | MACOS,
        input=requirements,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stderr.strip() if done.returncode else ""


if __name__ == "__main__":
    sys.exit(main())
