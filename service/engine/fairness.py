"""Who goes first: the tenant that has been served least.

Source: Sheng et al., Fairness in Serving Large Language Models (virtual token counters), 2024.
"""

from __future__ import annotations

from collections import Counter

# A token decoded beside others takes about as long as two of a prompt.
PROMPT_WEIGHT = 1.0
OUTPUT_WEIGHT = 2.0


class Ledger:
    """What each tenant has been served, in weighted tokens.

    A tenant that comes back is lifted to the least served of those present, so that time
    away is no credit; debts are kept only while somebody present has been served less.
    """

    def __init__(self) -> None:
        self._served: dict[str, float] = {}
        self._present: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._served)

    def served(self, tenant: str) -> float:
        return self._served.get(tenant, 0.0)

    def enter(self, tenant: str) -> None:
        """Notes that a request of the tenant came."""
        if tenant not in self._present:
            self._served[tenant] = max(self.served(tenant), self._floor())
        self._present[tenant] += 1

    def leave(self, tenant: str) -> None:
        """Notes that a request of the tenant ended."""
        self._present[tenant] -= 1
        if self._present[tenant] == 0:
            del self._present[tenant]
            self._forget()

    def charge(self, tenant: str, *, prompt: int = 0, output: int = 0) -> None:
        """Adds tokens that were computed for a tenant that is present."""
        self._served[tenant] += PROMPT_WEIGHT * prompt + OUTPUT_WEIGHT * output

    def _floor(self) -> float:
        return min((self._served[tenant] for tenant in self._present), default=0.0)

    def _forget(self) -> None:
        floor = self._floor() if self._present else float("inf")
        self._served = {
            tenant: served
            for tenant, served in self._served.items()
            if tenant in self._present or served > floor
        }
