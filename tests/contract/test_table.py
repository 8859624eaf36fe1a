"""README.md has a row for all that the contract promises, and each row tells the truth."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
from google.protobuf.descriptor import Descriptor

from rapport.v1 import (
    chat_pb2,
    completion_pb2,
    format_pb2,
    logprobs_pb2,
    message_pb2,
    model_pb2,
    status_pb2,
    tokenize_pb2,
    tool_pb2,
    usage_pb2,
)

HERE = Path(__file__).parent
PROTOS = HERE.parents[1] / "protos/rapport/v1"
FILES = [
    module.DESCRIPTOR
    for module in (
        chat_pb2,
        completion_pb2,
        format_pb2,
        logprobs_pb2,
        message_pb2,
        model_pb2,
        status_pb2,
        tokenize_pb2,
        tool_pb2,
        usage_pb2,
    )
]
# What the contract page has: its settled points, and its sections with what they promise.
SETTLED = (*range(1, 15), 16, 18, 19, 20, 22)
SECTIONS = (
    *(f"0.{point}" for point in range(1, 11)),
    *("1.", "1a", "1b", "1c"),
    *(f"2.{part}" for part in range(1, 5)),
    *(f"3.{part}" for part in range(1, 7)),
    *(f"4.{part}" for part in range(1, 12)),
    *(f"5.{part}" for part in range(1, 5)),
    *("6.", "7.", "8."),
)

ROW = re.compile(r"\| (?P<name>[^|]+) \| (?P<promise>.+?) \| (?P<tests>[^|]+) \|")
MESSAGE = re.compile(r"### `(\w+)`")
TEST = re.compile(r"\[(\w+)\]\(([^)]+)\)")
MJS_TEST = re.compile(r"^export (?:async )?function (\w+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table: a field of the message or the service above it, or a rule."""

    owner: str | None
    name: str
    tests: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        return f"{self.owner}.{self.name}" if self.owner else self.name


def read(text: str) -> Iterator[Row]:
    owner = None
    for line in text.splitlines():
        if line.startswith("#"):
            heading = MESSAGE.fullmatch(line)
            owner = heading[1] if heading else None
        elif (row := ROW.fullmatch(line)) and row["name"] not in ("field", "rule"):
            tests = [(name, path) for name, path in TEST.findall(row["tests"])]
            yield Row(owner, row["name"].strip("`"), tuple(tests))


ROWS = list(read((HERE / "README.md").read_text(encoding="utf-8")))
FIELDS = [str(row) for row in ROWS if row.owner]
RULES = [row.name for row in ROWS if not row.owner]


def messages() -> Iterator[Descriptor]:
    for file in FILES:
        yield from file.message_types_by_name.values()


def members() -> set[str]:
    """The fields of all messages and the methods of all services, by their owner."""
    fields = {f"{message.name}.{field.name}" for message in messages() for field in message.fields}
    services = [service for file in FILES for service in file.services_by_name.values()]
    return fields | {f"{each.name}.{method.name}" for each in services for method in each.methods}


@cache
def cases_in(path: Path) -> frozenset[str]:
    """The tests of a file, or the cases of a client program."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".mjs":
        return frozenset(MJS_TEST.findall(text))
    nodes = ast.walk(ast.parse(text))
    functions = (node for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    names = {function.name for function in functions}
    return frozenset(name for name in names if name.startswith(("test_", "case_")))


def test_all_protos_are_read() -> None:
    """There is no proto of the service that this file does not know."""
    assert {file.name for file in FILES} == {
        f"rapport/v1/{path.name}" for path in PROTOS.glob("*.proto")
    }


def test_every_field_has_a_row() -> None:
    """Each field and each method has a row, and just one."""
    assert members() - set(FIELDS) == set()
    assert len(FIELDS) == len(set(FIELDS))


def test_every_row_has_a_field() -> None:
    """No row names a field that there is not."""
    assert set(FIELDS) - members() == set()


def test_every_settled_point_has_a_row() -> None:
    """Each of the settled points has a row, in order."""
    settled = [rule for rule in RULES if re.fullmatch(r"S\d+", rule)]
    assert settled == [f"S{number}" for number in SETTLED]


@pytest.mark.parametrize("section", SECTIONS)
def test_every_section_has_a_row(section: str) -> None:
    """Each section of the contract that promises something has a row."""
    assert any(rule.split()[0] == section for rule in RULES)


def test_rules_are_told_apart() -> None:
    """No two rows are of the same rule."""
    assert len(RULES) == len(set(RULES))


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_every_row_is_proven(row: Row) -> None:
    """Each row names tests, all of which there are."""
    assert row.tests
    missing = [
        f"{path}::{name}"
        for name, path in row.tests
        if name not in cases_in((HERE / path).resolve())
    ]
    assert missing == []


def test_every_contract_test_has_a_row() -> None:
    """No test of this folder proves something that the table does not tell of."""
    own = {
        (name, path.name)
        for path in HERE.glob("test_*.py")
        if path != Path(__file__)
        for name in cases_in(path)
    }
    assert own - {test for row in ROWS for test in row.tests} == set()
