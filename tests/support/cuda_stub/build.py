"""Builds stub CUDA libraries for the CUDA provider of the installed onnxruntime-gpu.

python -m tests.support.cuda_stub.build FOLDER; then anything runs with LD_LIBRARY_PATH=FOLDER. It
needs gcc, binutils and the headers of libc, and takes a second. A stub exports just what the
provider asks of a library, under the version that it asks for.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
PROGRAMS = ("gcc", "nm", "readelf")
COMPILES = ("gcc", "-fsyntax-only", "-include", "pthread.h", "-x", "c", "/dev/null")
LIBRARIES = r"lib(?:cublas|cublasLt|curand|cudart)\.so\.\d+"
DRIVER = "libcuda.so.1"
HANDLE = "int %s(void **h) { *h = malloc(64); return 0; }"
# What has to give back more than success.
SPECIAL = {
    "cublasCreate_v2": HANDLE,
    "cublasLtCreate": HANDLE,
    "cublasLtMatmulDescCreate": HANDLE,
    "cublasLtMatrixLayoutCreate": HANDLE,
    "cublasLtMatmulPreferenceCreate": HANDLE,
    "cublasLtMatrixTransformDescCreate": HANDLE,
    "cublasGetMathMode": "int %s(void *h, int *mode) { *mode = 0; return 0; }",
    "cublasGetStatusName": 'const char *%s(int status) { return "CUBLAS_STATUS_STUB"; }',
    "cublasGetStatusString": 'const char *%s(int status) { return "an error of the stub"; }',
    "cublasLtMatmulAlgoGetHeuristic": (
        "int %s(void *a, void *b, void *c, void *d, void *e, void *f, void *g, int n, "
        "char *result, int *found) { memset(result, 0, 64); *found = 1; return 0; }"
    ),
}
PLAIN = "int %s(void) { return 0; }"
INCLUDES = "#include <stdlib.h>\n#include <string.h>\n"


def obstacle() -> str | None:
    """Why the stub cannot be built here, or None if it can."""
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing:
        return f"the stub of CUDA needs {' and '.join(missing)}"
    if subprocess.run(COMPILES, capture_output=True, check=False).returncode:
        return "the stub of CUDA needs the headers of libc"
    return None if _provider().exists() else "this build of ONNX Runtime has no CUDA provider"


def build(folder: Path) -> None:
    """Builds each library that the provider needs into a folder.

    Raises:
        RuntimeError: a library lacks a function that the provider asks for.
        subprocess.CalledProcessError: a program failed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    undefined = _output("nm", "-D", "--undefined-only", _provider())
    wanted: dict[str, set[str]] = {}
    for name, library in re.findall(rf" U (\w+)@+({LIBRARIES})", undefined):
        wanted.setdefault(library, set()).add(name)
    needed = re.findall(rf"\[({LIBRARIES}|{DRIVER})\]", _output("readelf", "-d", _provider()))
    for library in needed:
        _compile(library, wanted.get(library, set()), folder)


def _compile(library: str, names: set[str], folder: Path) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        source, versions = Path(scratch) / "stub.c", Path(scratch) / "stub.map"
        source.write_text(_source(library, names))
        versions.write_text(f"{library} {{ global: *; }};\n")
        # A driver's functions have no version.
        script = [] if library == DRIVER else [f"-Wl,--version-script={versions}"]
        flags = ["-shared", "-fPIC", "-O1", "-w", f"-I{HERE}", f"-Wl,-soname,{library}", *script]
        _output("gcc", *flags, "-o", folder / library, source, "-lpthread")
    defined = _output("nm", "-D", "--defined-only", folder / library)
    if missing := names - set(re.findall(r" T (\w+)", defined)):
        raise RuntimeError(f"the stub of {library} lacks {', '.join(sorted(missing))}")


def _source(library: str, names: set[str]) -> str:
    if library == DRIVER:
        return (HERE / "driver.c").read_text()
    if library.startswith("libcudart"):
        return (HERE / "runtime.c").read_text()
    return INCLUDES + "\n".join(SPECIAL.get(name, PLAIN) % name for name in sorted(names))


def _provider() -> Path:
    spec = importlib.util.find_spec("onnxruntime")
    if spec is None or spec.origin is None:
        raise RuntimeError("onnxruntime is not installed")
    return Path(spec.origin).parent / "capi" / "libonnxruntime_providers_cuda.so"


def _output(*command: object) -> str:
    words = [str(word) for word in command]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    build(Path(sys.argv[1]))
