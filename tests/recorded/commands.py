"""Runs of the command, and what its metrics are called."""

from __future__ import annotations

import re
import urllib.request
from collections.abc import Iterable, Iterator
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from tests.recorded.adapters import command
from tests.recorded.spec import Json

DEFAULT = re.compile(r"\((default(?: factory)?)(?:: (.*))?\)\s*$")
WIDE = {"COLUMNS": "400"}
# Labels whose values are the machine's, or the run's.
VARYING_LABELS = ("le", "version", "quantile")
HTTP = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def run(request: Json) -> Json:
    """The answer to a command: its status, or with that the options in its help."""
    done = command(request["command"], WIDE | request.get("variables", {}))
    answer: Json = {"status": done.returncode}
    if request.get("options"):
        answer["options"] = list(options_in(done.stdout))
    return answer


def options_in(text: str) -> Iterator[str]:
    """Each option's names and values, and its default; of commands their names."""
    head = ""
    for line in text.splitlines():
        if re.match(r" {2,4}\S", line):
            head = re.split(r" {2,}", line.strip())[0]
            if not head.startswith("-"):
                yield head
        default = DEFAULT.search(line)
        if head.startswith("-") and (default or not line.strip()):
            yield f"{head} ({factory_or(default)})" if default else head
            head = ""
    if head.startswith("-"):
        yield head


def factory_or(default: re.Match[str]) -> str:
    """The default; one that is made anew has an inner name that says nothing."""
    return "made anew" if default[1] == "default factory" else f"default: {default[2] or ''}"


def metrics(address: str) -> list[Json]:
    """The program's own metrics: names, types, and labels with their values."""
    text = HTTP.open(address, timeout=30).read().decode()
    families = text_string_to_metric_families(text)
    found = [
        {"name": each.name, "type": each.type, "labels": labels_of(each.samples)}
        for each in families
        if each.name.startswith("rapport")
    ]
    return sorted(found, key=lambda family: str(family["name"]))


def labels_of(samples: Iterable[Any]) -> dict[str, list[str]]:
    values: dict[str, set[str]] = {}
    for sample in samples:
        for label, value in sample.labels.items():
            values.setdefault(label, set()).add("*" if label in VARYING_LABELS else value)
    return {label: sorted(found) for label, found in sorted(values.items())}
