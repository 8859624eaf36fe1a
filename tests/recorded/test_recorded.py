"""What goes over the wire is what was recorded, byte for byte but for what varies.

`python -m tests.recorded.record` records anew; what changed is then in the diff of `answers/`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.recorded.asking import answers_of
from tests.recorded.masks import difference
from tests.recorded.spec import TOPICS, Case, cases, recorded
from tests.recorded.tiny import tiny_folder

CASES = cases()
RECORDED = {topic: recorded(topic) for topic in TOPICS}


class Replay:
    """Asks a server all of its cases once one of the answers is wanted."""

    def __init__(self, folder: Path, place: Path) -> None:
        self._folder = folder
        self._place = place
        self._answers: dict[Case, Any] = {}

    def answer(self, case: Case) -> Any:
        if case not in self._answers:
            asked = [each for each in CASES if each.server == case.server]
            found = answers_of(case.server, asked, self._folder, self._place, is_recorded)
            self._answers |= found
        return self._answers[case]


@pytest.fixture(scope="session")
def replay(tmp_path_factory: pytest.TempPathFactory) -> Replay:
    """The program as it is now, with a tiny model."""
    place = tmp_path_factory.mktemp("recorded")
    return Replay(tiny_folder(place / "model"), place)


def is_recorded(case: Case, answer: Any) -> bool:
    return not difference(RECORDED[case.topic].get(case.name), answer)


@pytest.mark.parametrize("topic", TOPICS)
def test_every_request_has_an_answer(topic: str) -> None:
    """Every request has been recorded, and no answer is left of one that is gone."""
    names = [case.name for case in CASES if case.topic == topic]
    assert sorted(RECORDED[topic]) == sorted(names)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_answer(replay: Replay, case: Case) -> None:
    """A request is answered as it was when its answer was recorded."""
    diff = difference(RECORDED[case.topic].get(case.name), replay.answer(case))
    if diff:
        pytest.fail(f"{case} is answered otherwise:\n{diff}", pytrace=False)
