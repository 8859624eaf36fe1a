"""Imports models into the cache."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from rapport.models.cache import store
from rapport.models.cache.catalog import KNOWN_MODELS, KnownModel, known_model
from rapport.models.cache.fetch import fetch
from rapport.models.cache.hub_name import PREFIX as HUB_PREFIX
from rapport.models.errors import (
    CacheError,
    CorruptFileError,
    FetchError,
    UnknownModelError,
    UnsupportedModelError,
)
from rapport.models.folder import Origin, is_current
from rapport.models.gguf.shards import model_name
from rapport.models.onnx.precision import PRECISIONS
from rapport.models.progress import Progress, silent

logger = logging.getLogger("rapport.models")

Announce = Callable[[str], None]


def ensure_any(model_id: str, precisions: Sequence[str], progress: Progress = silent) -> Path:
    """The folder of a model in the first of the precisions, or in a later one if necessary.

    A user's own file, or a model of the hub, may have been imported in a later one only. A known
    model is imported in the first; if that fails, for example as the cache is read-only, one that
    is in the cache is used.

    Raises:
        ModelError: there is none.
    """
    if model_id.startswith(HUB_PREFIX):
        return _ensure_from_hub(model_id, precisions, progress)
    folders = (store.model_folder(model_id, precision) for precision in precisions)
    present = next((folder for folder in folders if is_current(folder, pinned(model_id))), None)
    if present is not None and model_id not in KNOWN_MODELS:
        return present
    try:
        return ensure(model_id, precisions[0], progress)
    except (CacheError, FetchError) as error:
        if present is None:
            raise
        logger.warning("%s is served in %s: %s", model_id, present.name, error)
        return present


def ensure(model_id: str, precision: str, progress: Progress = silent) -> Path:
    """The folder of a model, which is fetched and imported unless it is in the cache.

    If it is in the cache, this takes milliseconds and no network.

    Raises:
        ModelError: it could not be imported; nothing incomplete is left behind.
    """
    check_precision(precision)
    if model_id.startswith(HUB_PREFIX):
        return _ensure_from_hub(model_id, [precision], progress)
    folder, wanted = store.model_folder(model_id, precision), pinned(model_id)
    if is_current(folder, wanted):
        return folder
    model = _known_model(model_id, precision)
    with _explained(f"import {model_id} --precision {precision}"), store.writing(progress):
        # Another process may have imported it while this one waited.
        if not is_current(folder, wanted):
            _write_folder(_origin_of(model, fetch(model, progress)), precision, folder, progress)
    return folder


def _known_model(model_id: str, precision: str) -> KnownModel:
    try:
        return known_model(model_id)
    except UnknownModelError as error:
        again = f"rapport models add SOURCE --precision {precision}"
        raise UnknownModelError(f"{error}; for a model of your own, run: {again}") from None


def import_file(
    path: Path,
    precision: str,
    progress: Progress = silent,
    *,
    name: str | None = None,
    chat_template: str | None = None,
    announce: Announce = lambda _: None,
    fetched_from: Mapping[str, str] | None = None,
) -> Path:
    """Imports a user's own GGUF file, one of several that it is split into, or a folder.

    Returns the model folder, which replaces one that was there. What the headers show to be damaged
    or not supported is refused within a second or two, before anything is written.

    Args:
        path: The GGUF file, or the Hugging Face folder.
        precision: That of the model folder.
        progress: Is told how far it is.
        name: The model's id; the name of the file or folder in lower case if it is not given.
        chat_template: Replaces that of the source.
        announce: Gets the lines that say what will be made.
        fetched_from: Where the source came from, for its model.json; by default its path.

    Raises:
        ModelError: the file could not be imported.
    """
    check_precision(precision)
    model_id = id_of(path, name or model_name(path))
    if path.is_dir():
        check_id(model_id, path)
    folder = store.model_folder(model_id, precision)
    command = f"import {path} --precision {precision}"
    with _explained(command):
        for line in _plan(model_id, path, chat_template, precision):
            announce(line)
    with _explained(command), store.writing(progress):
        source = _source_of(path, fetched_from)
        check_id(model_id, path, source.get("gguf_sha256"))
        origin = Origin(model_id, "local", path, source, chat_template)
        _write_folder(origin, precision, folder, progress)
    return folder


def preferred(path: Path, precisions: Sequence[str]) -> str:
    """The precision to import a source in, of those that can be served, the best one first.

    Of a folder's floats 4 bits lose much (docs/models.md), so they are for those who ask for them.
    """
    kept = [each for each in precisions if not (path.is_dir() and each.startswith("int4"))]
    return (kept or precisions)[0]


def import_genai(
    path: Path,
    progress: Progress = silent,
    *,
    precision: str | None = None,
    name: str | None = None,
    chat_template: str | None = None,
    announce: Announce = lambda _: None,
) -> Path:
    """Imports a folder of onnxruntime-genai; its weights are linked, if possible, not copied.

    Returns the model folder, which replaces one that was there. What cannot be served is refused
    before anything is written.

    Args:
        path: The folder.
        progress: Is told how far it is.
        precision: None, or that which the folder has.
        name: The model's id; the folder's name in lower case if it is not given.
        chat_template: Replaces that of the folder.
        announce: Gets the lines that say what will be made.

    Raises:
        ModelError: the folder could not be imported.
    """
    from rapport.models.genai.model import GenaiModel  # noqa: PLC0415 - see below
    from rapport.models.genai.trial import try_out  # noqa: PLC0415
    from rapport.models.genai.writer import plan_lines, write_genai_folder  # noqa: PLC0415

    model_id = id_of(path, name or path.resolve().name)
    check_id(model_id, path)
    with _explained(f"add {path}"):
        model = GenaiModel(path, chat_template)
        if precision not in (None, model.precision):
            raise UnsupportedModelError(f"{path} is in {model.precision}, not in {precision}")
        for line in plan_lines(model_id, model):
            announce(line)
        progress("running it once", 0.0)
        try_out(model)
    folder = store.model_folder(model_id, model.precision)
    with _explained(f"add {path}"), store.writing(progress):
        source = {"folder": str(path.resolve())}
        write_genai_folder(model, model_id, source, folder, progress)
    return folder


# What these import takes half a second. A start that finds its model in the cache is spared it.


def _plan(model_id: str, path: Path, chat_template: str | None, precision: str) -> Iterator[str]:
    from rapport.models.plan import plan_lines  # noqa: PLC0415 - see above
    from rapport.models.sources import open_model  # noqa: PLC0415

    return plan_lines(model_id, open_model(path, chat_template), precision)


def _source_of(path: Path, fetched_from: Mapping[str, str] | None) -> dict[str, str]:
    from rapport.models.sources import hash_of, place_of  # noqa: PLC0415

    return {**(fetched_from or place_of(path)), **hash_of(path)}


def _ensure_from_hub(name: str, precisions: Sequence[str], progress: Progress) -> Path:
    from rapport.models.hub_importer import ensure_from_hub  # noqa: PLC0415 - it imports this

    return ensure_from_hub(name, precisions, progress)


def _write_folder(origin: Origin, precision: str, folder: Path, progress: Progress) -> None:
    from rapport.models.folder_writer import write_folder  # noqa: PLC0415

    write_folder(origin, precision, folder, progress)


def remove(model_id: str, precisions: Sequence[str], progress: Progress = silent) -> list[Path]:
    """Removes a model's folders of these precisions from the cache. Returns those removed.

    Raises:
        UnknownModelError: there is none.
        CacheError: the cache cannot be written.
    """
    with _explained(f"remove {model_id}"), store.writing(progress):
        folders = [store.model_folder(model_id, precision) for precision in precisions]
        present = [folder for folder in folders if folder.is_dir()]
        if not present:
            raise UnknownModelError(f"there is no model {model_id!r} in {store.cache_root()}")
        for folder in present:
            store.remove(folder)
    return present


def id_of(path: Path, name: str) -> str:
    """The id of a model with this name; `path` is what a message names."""
    model_id = re.sub(r"[^a-z0-9._-]+", "-", name.lower()).lstrip(".")
    if not re.search("[a-z0-9]", model_id):
        raise UnsupportedModelError(f"{path}: no letter or digit for an id: rename the file")
    return model_id


def pinned(model_id: str) -> str | None:
    """The SHA-256 hash of a known model's GGUF file; None for a user's own model."""
    return KNOWN_MODELS[model_id].gguf_sha256 if model_id in KNOWN_MODELS else None


def check_id(model_id: str, source: object, gguf_sha256: str | None = None) -> None:
    """Checks that a source, which may be a GGUF file of this hash, is no other than a known model.

    Raises:
        UnsupportedModelError: it would pass for one.
    """
    if pinned(model_id) not in (None, gguf_sha256):
        raise UnsupportedModelError(f"{source}: {model_id} is another model: give it a --name")


def check_precision(precision: str) -> None:
    if precision not in PRECISIONS:
        known = ", ".join(PRECISIONS)
        raise UnsupportedModelError(f"there is no precision {precision!r}; known: {known}")


def _origin_of(model: KnownModel, gguf: Path) -> Origin:
    source = {
        "package": model.package,
        "version": model.version,
        "wheel_sha256": model.wheel_sha256,
        "file": model.member,
        "gguf_sha256": model.gguf_sha256,
        "license": model.license,
    }
    return Origin(model.id, model.owned_by, gguf, source)


@contextmanager
def _explained(command: str) -> Iterator[None]:
    """Adds the command to run to every error that may be gone at the next try."""
    again = f"then run: rapport models {command}"
    try:
        yield
    except FetchError as error:
        raise FetchError(f"{error}; check the connection to the package index, {again}") from error
    except CorruptFileError as error:
        raise CorruptFileError(f"{error}; put a sound file there, {again}") from error
    except OSError as error:
        place = error.filename or store.cache_root()
        reason = error.strerror or error
        raise CacheError(
            f"cannot use {place}: {reason}; make room or set RAPPORT_CACHE, {again}"
        ) from error
