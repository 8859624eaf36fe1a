"""rapport models: import models into the cache, list them, print their paths."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from rapport.models.cache import store
from rapport.models.cache.catalog import DEFAULT_MODEL, KNOWN_MODELS
from rapport.models.errors import ModelError, UnknownModelError, UnsupportedModelError
from rapport.models.folder import is_current
from rapport.models.importer import ensure, import_file, pinned
from rapport.models.onnx.precision import PRECISIONS, cpu_precision
from rapport.models.progress import shown

TEMPLATE_HELP = "a Jinja chat template, instead of that of the GGUF file"


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    try:
        for line in options.command(options):
            sys.stdout.write(f"{line}\n")
    except ModelError as error:
        sys.stderr.write(f"rapport models: {error}\n")
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="rapport models", description=__doc__)
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    fetching = commands.add_parser("import", help="put a model into the cache")
    fetching.set_defaults(command=_import_model)
    fetching.add_argument("--chat-template", type=Path, metavar="FILE", help=TEMPLATE_HELP)
    locating = commands.add_parser("path", help="print the folder of a model in the cache")
    locating.set_defaults(command=_locate)
    listing = commands.add_parser("list", help="list the models that are known or in the cache")
    listing.set_defaults(command=_list_models)
    for command in (fetching, locating):
        command.add_argument("model", nargs="?", default=DEFAULT_MODEL, metavar="MODEL")
        command.add_argument("--precision", choices=PRECISIONS, default=cpu_precision())
    return top


def _import_model(options: argparse.Namespace) -> Iterator[str]:
    file = Path(options.model)
    with shown() as progress:
        if file.suffix == ".gguf":
            template = _template(options.chat_template)
            folder = import_file(file, options.precision, progress, chat_template=template)
        else:
            folder = ensure(options.model, options.precision, progress)
    yield str(folder)


def _template(file: Path | None) -> str | None:
    try:
        return None if file is None else file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UnsupportedModelError(f"cannot read the chat template {file}: {error}") from error


def _locate(options: argparse.Namespace) -> Iterator[str]:
    folder = store.model_folder(options.model, options.precision)
    if not is_current(folder, pinned(options.model)):
        again = f"rapport models import {options.model} --precision {options.precision}"
        raise UnknownModelError(f"{folder} is not there; run: {again}")
    yield str(folder)


def _list_models(_: argparse.Namespace) -> Iterator[str]:
    """One line for each model: its id and the precisions in the cache."""
    folders = store.cache_root().glob("models/*/*")
    present = sorted(
        (path.parent.name, path.name)
        for path in folders
        if path.name in PRECISIONS and is_current(path, pinned(path.parent.name))
    )
    for model_id in sorted({model_id for model_id, _ in present} | KNOWN_MODELS.keys()):
        precisions = [precision for id_, precision in present if id_ == model_id]
        yield f"{model_id}  {', '.join(precisions) or 'not in the cache'}"


if __name__ == "__main__":
    sys.exit(main())
