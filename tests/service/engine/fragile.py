"""The arithmetic model, failing where a trap is set, and an engine's event loop by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from numpy.typing import NDArray

from rapport.service.engine.sampling.constraint import Constraint, Grammar
from rapport.service.engine.sampling.grammar_limits import GrammarBudget
from tests.service.engine.fake import FakeRunner


class Trap:
    """Raises once at a point, when it is set."""

    def __init__(self) -> None:
        self.point = ""
        self.error: type[Exception] = RuntimeError
        self.sprung = ""
        self.look: Callable[[], object] = lambda: None
        """What is to be seen when it springs."""
        self.seen: object = None

    def __call__(self, point: str) -> None:
        if point == self.point:
            self.sprung, self.point, self.seen = point, "", self.look()
            raise self.error


class FragileRunner(FakeRunner):
    def __init__(self, slots: int, trap: Trap) -> None:
        super().__init__(slots)
        self.before = trap

    def read(self, slot: int, start: int, count: int) -> NDArray[Any]:
        self.before("read")
        return super().read(slot, start, count)

    def write(self, slot: int, start: int, tokens: NDArray[Any], count: int) -> None:
        self.before("write")
        super().write(slot, start, tokens, count)


class FragileBytes(Sequence[bytes]):
    def __init__(self, table: Sequence[bytes], trap: Trap) -> None:
        self._table, self._trap = table, trap

    def __getitem__(self, token: Any) -> Any:
        self._trap("text")
        return self._table[token]

    def __len__(self) -> int:
        return len(self._table)


class FragileGrammar(Grammar):
    def __init__(self, grammar: Grammar, trap: Callable[[str], object]) -> None:
        super().__init__(grammar._first, grammar.source, grammar.jobs)
        self._trap = trap

    def start(self, budget: GrammarBudget | None = None) -> Constraint:
        self._trap("start")
        return super().start(budget)


class AtOnce:
    """An event loop that runs what it is given."""

    def is_closed(self) -> bool:
        return False

    def call_soon_threadsafe(self, callback: Callable[..., object], *args: object) -> None:
        callback(*args)
