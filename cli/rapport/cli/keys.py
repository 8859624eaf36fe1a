"""rapport keys: create, list and remove API keys.

A running service that uses the file applies a change within a second.
"""

from __future__ import annotations

import argparse
import secrets
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import tomlkit

from rapport.common.settings import Settings, SettingsError, load
from rapport.common.telemetry.formatters import printable
from rapport.service.keys.key_file import KEY_NAME, KeyEntry, KeyFileError, edit_key_file, load_keys
from rapport.service.keys.key_store import KEY_ID_LENGTH, hash_key
from rapport.service.keys.limits import KeyLimits

PREFIX = "rk-"
SECRET_BYTES = 32


class KeysError(Exception):
    """A command failed. The text is one line that says why."""


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    try:
        file = options.file or configured_file()
        for line in options.command(file, options):
            sys.stdout.write(f"{line}\n")
    except (KeysError, KeyFileError, SettingsError) as error:
        sys.stderr.write(f"rapport keys: {error}\n")
        return 1
    return 0


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="rapport keys", description=__doc__)
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    adding = commands.add_parser("add", help="create a key and print it; it cannot be shown again")
    adding.set_defaults(command=add)
    adding.add_argument("--models", help="ids of the models it may use, separated by commas")
    adding.add_argument("--admin", action="store_true", help="may see the status of the service")
    for name, field in KeyLimits.model_fields.items():
        flag = f"--{name.replace('_', '-')}"
        adding.add_argument(flag, type=int, metavar="N", help=field.description)
    listing = commands.add_parser("list", help="list the keys: names, ids in logs, and limits")
    listing.set_defaults(command=list_keys)
    removing = commands.add_parser("remove", help="remove a key")
    removing.set_defaults(command=remove)
    for command in (adding, removing):
        command.add_argument("name", type=name_of, metavar="NAME")
    for command in (adding, listing, removing):
        command.add_argument("--file", type=Path, help="default: the setting api_keys_file")
    return top


def name_of(text: str) -> str:
    if not KEY_NAME.fullmatch(text):
        raise argparse.ArgumentTypeError("up to 64 letters, digits, - and _ make a name")
    return text


def configured_file() -> Path:
    """The file of the settings, in the environment or in rapport.toml."""
    file = load(Settings, []).api_keys_file
    if file is None:
        raise KeysError("name the file with --file or the setting api_keys_file")
    return file


def add(file: Path, options: argparse.Namespace) -> Iterator[str]:
    key = PREFIX + secrets.token_urlsafe(SECRET_BYTES)
    table = tomlkit.table()
    table["hash"] = hash_key(key.encode())
    if options.models is not None:
        table["models"] = [model.strip() for model in options.models.split(",") if model.strip()]
    if options.admin:
        table["admin"] = True
    for name in KeyLimits.model_fields:
        if (limit := getattr(options, name)) is not None:
            table[name] = limit
    with edit_key_file(file) as document:
        if options.name in document:
            raise KeysError(f"there is a key {options.name} in {file}")
        document[options.name] = table
    yield key


def list_keys(file: Path, _: argparse.Namespace) -> Iterator[str]:
    """One line for each key."""
    for name, entry in load_keys(file).items():
        yield "  ".join([name, entry.hash[:KEY_ID_LENGTH], *terms(entry)])


def terms(entry: KeyEntry) -> Iterator[str]:
    """The settings of a key that differ from the defaults."""
    if entry.disabled:
        yield "disabled"
    if entry.admin:
        yield "admin"
    if entry.models is not None:
        yield printable(f"models={','.join(entry.models)}")
    for name in KeyLimits.model_fields:
        if name in entry.model_fields_set:
            yield f"{name}={getattr(entry, name)}"


def remove(file: Path, options: argparse.Namespace) -> Iterator[str]:
    with edit_key_file(file) as document:
        if options.name not in document:
            raise KeysError(f"there is no key {options.name} in {file}")
        del document[options.name]
    return iter(())


if __name__ == "__main__":
    sys.exit(main())
