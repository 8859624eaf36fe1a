"""Fair shares: the API key that has been served least goes first, and so does its user.

Source: Sheng et al., Fairness in Serving Large Language Models (virtual token counters), 2024.
"""

from __future__ import annotations

from collections import Counter
from heapq import nlargest

from rapport.service.engine.request import Tenant

# A token decoded beside others takes about as long as two of a prompt.
PROMPT_WEIGHT = 1.0
OUTPUT_WEIGHT = 2.0
# A newcomer may be ahead of the others by this many weighted tokens, so that its first prompt is
# read before shares are equalised. It would take twice the time otherwise.
CREDIT_TOKENS = 2000.0
# How many claimants that left are remembered: those served most.
MAX_REMEMBERED = 1000


class FairShares:
    """What each claimant has been served, in weighted tokens.

    A newcomer is lifted to `CREDIT_TOKENS` below the least served claimant present, so that an
    absence earns no more than that. Claimants that left are remembered while it would matter.
    """

    def __init__(self) -> None:
        self._served: dict[str, float] = {}
        self._present: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._served)

    def served(self, claimant: str) -> float:
        return self._served.get(claimant, 0.0)

    def enter(self, claimant: str) -> None:
        """Records that a request of the claimant arrived."""
        if claimant not in self._present:
            self._served[claimant] = max(self.served(claimant), self._floor())
        self._present[claimant] += 1

    def leave(self, claimant: str) -> None:
        """Records that a request of the claimant ended."""
        self._present[claimant] -= 1
        if self._present[claimant] == 0:
            del self._present[claimant]
            self._forget()

    def charge(self, claimant: str, tokens: float) -> None:
        """Adds what was computed for a claimant that is present."""
        self._served[claimant] += tokens

    def _floor(self) -> float:
        served = (self._served[claimant] for claimant in self._present)
        return max(min(served, default=0.0) - CREDIT_TOKENS, 0.0)

    def _forget(self) -> None:
        floor = self._floor() if self._present else float("inf")
        gone = (
            claimant
            for claimant, served in self._served.items()
            if claimant not in self._present and served > floor
        )
        kept = nlargest(MAX_REMEMBERED, gone, key=self.served)
        self._served = {claimant: self._served[claimant] for claimant in (*self._present, *kept)}


class ServiceLedger:
    """Shares of the keys, and of the users within each key.

    A caller that invents users only divides the share of its own key.
    """

    def __init__(self) -> None:
        self._keys = FairShares()
        self._users: dict[str, FairShares] = {}

    def __len__(self) -> int:
        return len(self._keys) + sum(map(len, self._users.values()))

    def served(self, tenant: Tenant) -> tuple[float, float]:
        """What the tenant's key and the tenant have been served; the smaller pair goes first."""
        users = self._users.get(tenant.key)
        return self._keys.served(tenant.key), users.served(tenant.user) if users else 0.0

    def enter(self, tenant: Tenant) -> None:
        """Records that a request of the tenant arrived."""
        self._keys.enter(tenant.key)
        self._users.setdefault(tenant.key, FairShares()).enter(tenant.user)

    def leave(self, tenant: Tenant) -> None:
        """Records that a request of the tenant ended."""
        self._keys.leave(tenant.key)
        users = self._users[tenant.key]
        users.leave(tenant.user)
        if not users:
            del self._users[tenant.key]

    def charge(self, tenant: Tenant, *, prompt: int = 0, output: int = 0) -> None:
        """Adds tokens that were computed for a tenant that is present."""
        tokens = PROMPT_WEIGHT * prompt + OUTPUT_WEIGHT * output
        self._keys.charge(tenant.key, tokens)
        self._users[tenant.key].charge(tenant.user, tokens)
