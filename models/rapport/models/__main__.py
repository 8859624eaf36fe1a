"""rapport models: add models to the cache, list, show, verify and remove them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from rapport.common.model_spec import ModelSpec
from rapport.common.telemetry.formatters import printable
from rapport.models.cache import store
from rapport.models.cache.catalog import DEFAULT_MODEL, KNOWN_MODELS
from rapport.models.cache.hub_name import PREFIX as HUB_PREFIX
from rapport.models.errors import (
    CorruptFileError,
    ModelError,
    UnknownModelError,
    UnsupportedModelError,
)
from rapport.models.folder import damaged_files, is_current
from rapport.models.genai.config import is_genai
from rapport.models.importer import ensure, import_file, import_genai, pinned, preferred, remove
from rapport.models.onnx.precision import PRECISIONS, cpu_precision, cpu_precisions
from rapport.models.plan import MIB
from rapport.models.progress import Progress, shown

SOURCE_HELP = (
    "a GGUF file, one of them if it is split; a folder of Hugging Face or genai; "
    "or hf:owner/name or hf:owner/name:file on the hub"
)
TEMPLATE_HELP = "a Jinja chat template, instead of that of the source"


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    try:
        for line in options.command(options):
            _print(line)
    except ModelError as error:
        sys.stderr.write(f"rapport models: {printable(str(error))}\n")
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="rapport models", description=__doc__)
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    def command(
        name: str, function: Callable[[argparse.Namespace], Iterator[str]], summary: str
    ) -> argparse.ArgumentParser:
        parser = commands.add_parser(name, help=summary)
        parser.set_defaults(command=function)
        return parser

    fetching = command("import", _import_model, "put a model into the cache")
    adding = command("add", _add, "say what a model will become, and put it into the cache")
    adding.add_argument("model", metavar="SOURCE", help=SOURCE_HELP)
    adding.add_argument("--name", help="the model's id; by default the source's name")
    locating = command("path", _locate, "print the folder of a model in the cache")
    command("list", _list_models, "list the models that are known or in the cache")
    for parser in (fetching, adding):
        parser.add_argument("--chat-template", type=Path, metavar="FILE", help=TEMPLATE_HELP)
    for parser in (fetching, locating):
        parser.add_argument("model", nargs="?", default=DEFAULT_MODEL, metavar="MODEL")
    for parser in (fetching, adding, locating):
        parser.add_argument("--precision", choices=PRECISIONS)
    showing = command("show", _show, "say what a model in the cache is")
    verifying = command("verify", _verify, "check the files of a model in the cache")
    removing = command("remove", _remove, "remove a model from the cache")
    for parser in (showing, verifying, removing):
        parser.add_argument("model", metavar="MODEL")
        parser.add_argument("--precision", choices=PRECISIONS, help="by default all of them")
    return top


def _import_model(options: argparse.Namespace) -> Iterator[str]:
    more = {"chat_template": _template(options.chat_template)}
    with shown() as progress:
        if _is_source(options.model):
            folder = _added(options.model, options.precision, progress, more)
        else:
            folder = ensure(options.model, options.precision or cpu_precision(), progress)
    yield str(folder)


def _is_source(model: str) -> bool:
    """Whether this is a file, a folder or a name on the hub, and not that of a known model."""
    path = Path(model)
    is_file = path.suffix == ".gguf" or (path / "config.json").is_file()
    return is_file or is_genai(path) or model.startswith(HUB_PREFIX)


def _add(options: argparse.Namespace) -> Iterator[str]:
    more = {
        "name": options.name,
        "chat_template": _template(options.chat_template),
        "announce": _print,
    }
    with shown() as progress:
        folder = _added(options.model, options.precision, progress, more)
    yield str(folder)


def _added(source: str, precision: str | None, progress: Progress, more: dict[str, Any]) -> Path:
    if is_genai(Path(source)):
        return import_genai(Path(source), progress, precision=precision, **more)
    precisions = [precision] if precision else cpu_precisions()
    if source.startswith(HUB_PREFIX):
        from rapport.models.hub_importer import import_from_hub  # noqa: PLC0415 - it takes a while

        return import_from_hub(source, precisions, progress, **more)
    return import_file(Path(source), preferred(Path(source), precisions), progress, **more)


def _print(line: str) -> None:
    """Prints a line at once, also where files that are not trusted have said some of it."""
    sys.stdout.write(f"{printable(line)}\n")
    sys.stdout.flush()


def _show(options: argparse.Namespace) -> Iterator[str]:
    for folder in _present(options):
        spec = _spec_of(folder)
        size = sum(spec.sizes.values()) / MIB
        yield f"{spec.id} {spec.precision}: {size:,.0f} MiB in {folder}"
        yield f"  {spec.layers} layers, a context of {spec.context_length:,} tokens"
        yield from (f"  {key}: {value}" for key, value in spec.source.items())


def _verify(options: argparse.Namespace) -> Iterator[str]:
    for folder in _present(options):
        if damaged := damaged_files(folder, _spec_of(folder)):
            raise CorruptFileError(f"{folder}: damaged: {', '.join(damaged)}; import it again")
        yield f"{folder} is sound"


def _remove(options: argparse.Namespace) -> Iterator[str]:
    yield from (f"removed {folder}" for folder in remove(options.model, _precisions(options)))


def _precisions(options: argparse.Namespace) -> list[str]:
    return list(PRECISIONS) if options.precision is None else [options.precision]


def _present(options: argparse.Namespace) -> list[Path]:
    """The folders of a model in the cache, in the precisions that are asked for.

    Raises:
        UnknownModelError: there is none.
    """
    folders = [store.model_folder(options.model, each) for each in _precisions(options)]
    present = [folder for folder in folders if folder.is_dir()]
    if not present:
        raise UnknownModelError(f"there is no model {options.model!r} in {store.cache_root()}")
    return present


def _spec_of(folder: Path) -> ModelSpec:
    try:
        return ModelSpec.read(folder)
    except (OSError, ValueError) as error:
        reason = "its model.json cannot be read, or is of another version"
        raise CorruptFileError(f"{folder}: {reason}; import it again") from error


def _template(file: Path | None) -> str | None:
    try:
        return None if file is None else file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UnsupportedModelError(f"cannot read the chat template {file}: {error}") from error


def _locate(options: argparse.Namespace) -> Iterator[str]:
    precisions = [options.precision] if options.precision else [*cpu_precisions(), *PRECISIONS]
    folders = [store.model_folder(options.model, precision) for precision in precisions]
    hash_ = pinned(options.model)
    folder = next((folder for folder in folders if is_current(folder, hash_)), None)
    if folder is None:
        again = f"rapport models import {options.model} --precision {precisions[0]}"
        raise UnknownModelError(f"{folders[0]} is not there; run: {again}")
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
