"""python -m tests.recorded.record [TOPIC ...]: records the answers of the program as it is."""

from __future__ import annotations

import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.recorded.asking import Suits, answers_of
from tests.recorded.masks import difference
from tests.recorded.spec import Case, cases, keep, recorded
from tests.recorded.tiny import tiny_folder


def main(topics: list[str]) -> int:
    """Writes the answers of the topics, or of all; others of the same server are asked as well."""
    with tempfile.TemporaryDirectory() as place:
        folder = tiny_folder(Path(place, "model"))
        for server, asked in by_server(cases(), topics).items():
            answers = answers_of(server, asked, folder, Path(place), come_twice())
            write(answers, topics)
    return 0


def by_server(every: Iterable[Case], topics: list[str]) -> dict[str, list[Case]]:
    """The cases of the servers that some topic is asked of."""
    found: dict[str, list[Case]] = defaultdict(list)
    for case in every:
        found[case.server].append(case)
    wanted = {case.server for each in found.values() for case in each if case.topic in topics}
    return {server: each for server, each in found.items() if not topics or server in wanted}


def come_twice() -> Suits:
    """Suits what has come twice: pieces that a stall joined are others each time."""
    earlier: dict[Case, list[Any]] = defaultdict(list)

    def suits(case: Case, answer: Any) -> bool:
        twice = any(not difference(each, answer) for each in earlier[case])
        earlier[case].append(answer)
        return twice

    return suits


def write(answers: dict[Case, Any], topics: list[str]) -> None:
    found: dict[str, dict[str, Any]] = defaultdict(dict)
    for case, answer in answers.items():
        found[case.topic][case.name] = answer
    for topic, of_topic in found.items():
        if topic in topics or not topics:
            before = recorded(topic)
            changed = [
                name for name, each in of_topic.items() if difference(before.get(name), each)
            ]
            # What differs by rounding alone stays as it was.
            same = {name: before[name] for name in of_topic if name not in changed}
            keep(topic, of_topic | same)
            sys.stdout.write(f"{topic}: {len(of_topic)} answers, {len(changed)} new\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
