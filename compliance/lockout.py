"""Failed logins by where they come from: a client application, an address.

The account's own count, in the database, stops who tries many passwords for one name. This one stops who tries one
password for many names (spraying), and names that do not exist: one person's mistakes count once here, since a whole
control room may share one application and one address. It is kept in memory: a restart forgives, as the next login
that succeeds does, and the account's count outlives both.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

LONGEST = 24 * 3600.0
"""Seconds: beyond this a longer lock only keeps the owner out."""
SOURCES = 10_000
"""Sources remembered; beyond, the one heard of longest ago is forgotten."""
SECOND = 1_000_000_000


def locked_until(failures: int, allowed: int, seconds: float, now: int) -> int:
    """When a lock after so many failures in a row ends, ns UTC: twice as long with each further one; 0: no lock."""
    beyond = failures - allowed
    if beyond < 0:
        return 0
    return now + int(min(seconds * 2.0 ** min(beyond, 64), LONGEST) * SECOND)


@dataclass(frozen=True, slots=True)
class Locked:
    """What was locked just now, and until when: to be reported at once (R29)."""

    record: str
    """`user_account/anna`, `application/urn:...` or `address/192.0.2.7`."""
    failures: int
    until: int
    """ns UTC."""


class Seldom:
    """What is told once in a while, with the number of times it was not: anybody can cause it as often as he likes."""

    def __init__(self, every: int) -> None:
        """`every`: ns."""
        self._every = every
        self._told: dict[str, tuple[int, int]] = {}

    def untold(self, what: str, now: int) -> int | None:
        """How many went untold since the last one, None when this one does too."""
        told, untold = self._told.get(what, (now - self._every, 0))
        if now - told < self._every:
            self._told[what] = told, untold + 1
            return None
        self._told[what] = now, 0
        return untold


@dataclass(slots=True)
class _Count:
    failures: int = 0
    names: set[str] = field(default_factory=set)
    """Accounts among them; each counts once."""
    until: int = 0
    told: int = 0
    """When a refusal was last told of, ns UTC."""
    untold: int = 0


class Sources:
    """Counts of every source that has failed since it last succeeded."""

    def __init__(self, allowed: int, seconds: float) -> None:
        self._allowed = allowed
        self._seconds = seconds
        self._counts: dict[str, _Count] = {}

    def locked(self, sources: Iterable[str], now: int) -> bool:
        return any(now < self._counts[s].until for s in sources if s in self._counts)

    def failed(self, sources: Iterable[str], name: str, now: int) -> list[Locked]:
        """Count a failure for an account, or for no account there is (''); which of the sources are locked by it."""
        found = []
        for source in sources:
            count = self._counts.pop(source, None) or _Count()
            self._counts[source] = count  # heard of last
            if name and name in count.names:
                continue
            count.names |= {name} if name else set()
            count.failures += 1
            count.until = locked_until(count.failures, self._allowed, self._seconds, now)
            if count.until:
                found.append(Locked(source, count.failures, count.until))
        while len(self._counts) > SOURCES:
            del self._counts[next(iter(self._counts))]
        return found

    def succeeded(self, sources: Iterable[str]) -> None:
        for source in sources:
            self._counts.pop(source, None)

    def refused(self, sources: Iterable[str], now: int, every: int) -> int | None:
        """An attempt of a locked source: how many went untold since the last one, None when this one does too.

        One entry a source in `every` ns: what anybody can cause must not fill the audit log.
        """
        for source in sources:
            count = self._counts.get(source)
            if count is None or now >= count.until:
                continue
            if now - count.told < every:
                count.untold += 1
                return None
            untold, count.untold, count.told = count.untold, 0, now
            return untold
        return None
