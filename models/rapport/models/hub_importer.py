"""Imports models of the Hugging Face hub."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rapport.common.model_spec import ModelSpec
from rapport.models.cache import store
from rapport.models.cache.hub_name import HubName
from rapport.models.errors import UnsupportedModelError
from rapport.models.folder import is_current
from rapport.models.huggingface.hub import fetch
from rapport.models.importer import (
    Announce,
    check_id,
    check_precision,
    id_of,
    import_file,
    preferred,
)
from rapport.models.onnx.precision import PRECISIONS
from rapport.models.progress import Progress, silent


def import_from_hub(
    hub_name: str,
    precisions: Sequence[str],
    progress: Progress = silent,
    *,
    name: str | None = None,
    chat_template: str | None = None,
    announce: Announce = lambda _: None,
) -> Path:
    """Imports a model of the Hugging Face hub, as `import_file` does, once its files are fetched.

    Args:
        hub_name: hf:owner/name or hf:owner/name:file.
        precisions: Those that can be served, the best one first; one of them is chosen.
        progress: Is told how far it is.
        name: The model's id; that of the repository or of the file if it is not given.
        chat_template: Replaces that of the source.
        announce: Gets the lines that say what will be made.

    Raises:
        ModelError: the model could not be fetched or imported.
    """
    for precision in precisions:
        check_precision(precision)
    hub = HubName.parse(hub_name)
    if name is None:
        _check_origin(id_of(Path(hub_name), hub.model_name), hub)
    name = name or hub.model_name
    if hub.file is None:
        check_id(id_of(Path(hub_name), name), hub_name)
    fetched = fetch(hub.repository, hub.file, progress)
    return import_file(
        fetched.path,
        preferred(fetched.path, precisions),
        progress,
        name=name,
        chat_template=chat_template,
        announce=announce,
        fetched_from=fetched.source,
    )


def _check_origin(model_id: str, hub: HubName) -> None:
    """Checks that no model of this id is there from another repository.

    Raises:
        UnsupportedModelError: there is one, which would be replaced.
    """
    folders = (store.model_folder(model_id, precision) for precision in PRECISIONS)
    for folder in filter(is_current, folders):
        other = ModelSpec.read(folder).source.get("hub", hub.repository)
        if other != hub.repository:
            raise UnsupportedModelError(
                f"{model_id} is in the cache from {other}: add that of {hub.repository} with a "
                "--name, and serve it by that"
            )


def ensure_from_hub(hub_name: str, precisions: Sequence[str], progress: Progress) -> Path:
    """The folder in the first precision that is in the cache, or else imported.

    Raises:
        ModelError: the model could not be fetched or imported.
    """
    hub = HubName.parse(hub_name)
    model_id = id_of(Path(hub_name), hub.model_name)
    for precision in precisions:
        folder = store.model_folder(model_id, precision)
        if is_current(folder) and hub.is_of(ModelSpec.read(folder).source):
            return folder
    return import_from_hub(hub_name, precisions, progress)
