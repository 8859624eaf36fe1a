from __future__ import annotations

import pytest

from bench.errors import BenchError
from bench.measure import Record
from bench.versus.asks import TEXT, alone, mixed
from bench.versus.workloads import agreement_with, check_document, is_good

DOCUMENT = (
    '{"order_id": 7, "customer": {"name": "Ada", "tier": "gold"}, "items": [{"product": "pen", '
    '"quantity": 2, "status": "packed"}, {"product": "ink", "quantity": 1, "status": "shipped"}], '
    '"gift": false}'
)


def test_only_documents_of_the_schema_count() -> None:
    """What is cut off or has a value that the schema does not know stops the run."""
    check_document(DOCUMENT)
    for wrong in (DOCUMENT[:-1], DOCUMENT.replace("gold", "lead")):
        with pytest.raises(BenchError, match="not a document"):
            check_document(wrong)


def test_agreement_tells_a_repetition_from_other_text() -> None:
    """1 for the text as it begins, near 0 for something else."""
    assert agreement_with(TEXT, TEXT[:300]) == 1
    assert agreement_with(TEXT, "0123456789" * 30) < 0.2


@pytest.mark.parametrize(
    ("late", "first", "finished", "good"),
    [(0.0, 1.9, 2.8, True), (0.2, 1.9, 2.8, False), (0.0, 2.1, 2.8, False), (0, 1.0, 2.2, False)],
)
def test_good_answers_are_in_time_at_both_ends(
    late: float, first: float, finished: float, *, good: bool
) -> None:
    """The first token counts from when the request was due, the others by their mean gap."""
    record = Record(0.0, late, [first], finished, finished, completion_tokens=11)
    assert is_good(record) is good


def test_a_seed_gives_the_same_request_and_another_shares_no_beginning() -> None:
    """Both servers get the same prompts, and no cache knows a round's from another's."""
    assert mixed("a") == mixed("a")
    systems = {alone(50, 8, f"{n}")["messages"][0]["content"] for n in range(200)}
    assert len({system.split()[0] + system.split()[1] for system in systems}) > 190
