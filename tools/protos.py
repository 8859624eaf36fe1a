"""Generates the Python code of the protos beside them, or checks that it is up to date.

`python tools/protos.py` generates; `--check` compares instead, and runs `buf lint`.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PROTOS = ROOT / "protos"
GOOGLE = PROTOS / "third_party"
BIN = Path(sys.executable).parent
GENERATED = ("*_pb2.py", "*_pb2.pyi", "*_pb2_grpc.py", "*_pb2_grpc.pyi", "protos.binpb")


def main() -> int:
    """Returns the process's exit status: 1 when a check fails."""
    if "--check" not in sys.argv[1:]:
        generate(PROTOS)
        return 0
    return check_drift() or subprocess.run([BIN / "buf", "lint"], cwd=ROOT, check=False).returncode


def generate(out: Path) -> None:
    """Writes messages, stubs of services and the compiled set of all protos under `out`."""
    files = sorted(str(path.relative_to(PROTOS)) for path in PROTOS.glob("rapport/**/*.proto"))
    services = [file for file in files if "\nservice " in (PROTOS / file).read_text()]
    protoc(f"--python_out={out}", f"--mypy_out=quiet:{out}", *files)
    protoc(f"--grpc_python_out={out}", f"--mypy_grpc_out=quiet:{out}", *services)
    # Reflection sends these: generated code has no comments any more.
    compiled = out / "rapport" / "v1" / "protos.binpb"
    protoc(f"--descriptor_set_out={compiled}", "--include_source_info", *files)


def protoc(*arguments: str) -> None:
    plugins = [f"--plugin={BIN / name}" for name in ("protoc-gen-mypy", "protoc-gen-mypy_grpc")]
    paths = [f"--proto_path={PROTOS}", f"--proto_path={GOOGLE}"]
    subprocess.run(
        [sys.executable, "-m", "grpc_tools.protoc", *paths, *plugins, *arguments], check=True
    )


def check_drift() -> int:
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder))
        stale = sorted(contents(PROTOS).items() ^ contents(Path(folder)).items())
    for path in sorted({path for path, _ in stale}):
        print(f"protos/{path} is not what its proto generates: run `make protos`")
    return 1 if stale else 0


def contents(root: Path) -> dict[Path, bytes]:
    paths = [path for pattern in GENERATED for path in root.rglob(pattern)]
    return {path.relative_to(root): path.read_bytes() for path in paths}


if __name__ == "__main__":
    sys.exit(main())
