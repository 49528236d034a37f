"""How the alarm system does: rates, chattering, flood, what stands (ISA-18.2 clause 16, Part 9 9.2). Knows no OPC UA.

An alarm is an annunciation: something an operator has to look at. Figures run from the start, or from the last `reset`.
"""

from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from opcua_server.plant.alarm_states import Condition, Notification, State

SECOND = 1_000_000_000
TEN_MINUTES = 600 * SECOND
CHATTER_COUNT, CHATTER_SECONDS = 3, 60.0
"""ISA-18.2 3.1.22: an alarm that comes and goes so often in so short a time chatters."""
FLOOD, CALM = 10, 5
"""Alarms in 10 minutes: a flood begins beyond the first and ends below the second (ISA-18.2 16.5.4)."""
STALE = 24 * 3600 * SECOND
"""An alarm that is active for longer is stale (ISA-18.2 16.5.6)."""
BANDS = ("Information", "Warning", "High", "Critical")
"""Severities to 249, to 499, to 749, from 750."""


def chatters(times: Sequence[int]) -> bool:
    """Whether so many of these times, ns in order, lie within `CHATTER_SECONDS`."""
    last = CHATTER_COUNT - 1
    return any(times[i + last] - times[i] <= CHATTER_SECONDS * SECOND for i in range(len(times) - last))


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics:
    """What stands in AlarmMetricsType, and what operators ask beside."""

    started: int
    """ns UTC."""
    count: int
    current: float
    """Alarms in the last 10 minutes."""
    maximum: float
    """Most in any 10 minutes."""
    average: float
    """Per 10 minutes."""
    longest_active: float
    """Seconds."""
    longest_unacked: float
    flood: bool
    standing: int
    stale: int
    unacknowledged: int
    shelved: int
    chattering: int
    oldest: int
    """Since when the oldest active alarm is, ns UTC; 0 without one."""
    bands: tuple[int, ...]
    """Active alarms by `BANDS`."""


class Figures:
    """Follows what is told of alarms."""

    def __init__(self, now: int) -> None:
        self.reset(now)
        self._recent: deque[int] = deque()
        """Alarms of the last 10 minutes."""
        self._times: defaultdict[str, deque[int]] = defaultdict(lambda: deque(maxlen=CHATTER_COUNT))
        self._before: dict[str, tuple[State, str]] = {}
        self._noted: dict[str, int] = {}
        """Alarms that chatter, and when they last came."""
        self._flood = False

    def reset(self, now: int) -> None:
        """Begin anew (AlarmMetricsType.Reset); what chatters and a flood go on."""
        self._started = now
        self._count = 0
        self._maximum = 0
        self._longest_active = self._longest_unacked = 0

    def restore(self, conditions: Iterable[Condition]) -> None:
        """What an earlier run told is not told anew."""
        for condition in conditions:
            self._before[condition.node] = condition.trunk.state, condition.trunk.level

    def told(self, notification: Notification) -> str:
        """Take in a notification; the alarm's name when it has just begun to chatter, else empty."""
        condition, branch = notification.condition, notification.branch
        if branch.number or condition.kind.dialog:
            return ""
        now = branch.state, branch.level
        before = self._before.get(condition.node, (State.NORMAL, ""))
        self._before[condition.node] = now
        raised = branch.state is State.UNACKED and now != before
        if not raised or condition.hidden or not condition.enabled.on:
            return ""
        self._count += 1
        self._recent.append(branch.time)
        self._maximum = max(self._maximum, self._in_ten_minutes(branch.time))
        times = self._times[condition.node]
        times.append(branch.time)
        if not chatters(tuple(times)):
            return ""
        noted = condition.node in self._noted
        self._noted[condition.node] = branch.time
        return "" if noted else condition.node

    def metrics(self, conditions: Iterable[Condition], now: int) -> Metrics:
        """How it stands; `conditions` are those that ever moved."""
        self._noted = {node: last for node, last in self._noted.items() if now - last < TEN_MINUTES}
        current = self._in_ten_minutes(now)
        self._flood = current > FLOOD or (self._flood and current >= CALM)
        kept = [c for c in conditions if c.enabled.on and not c.kind.dialog]
        active = [c for c in kept if c.trunk.state.active]
        waiting = [c for c in kept if not c.acked]
        ages = [now - c.trunk.active_time for c in active]
        self._longest_active = max((self._longest_active, *ages))
        self._longest_unacked = max((self._longest_unacked, *(now - _waits_since(c) for c in waiting)))
        bands = Counter(min(c.trunk.severity, 999) // 250 for c in active)
        return Metrics(
            started=self._started,
            count=self._count,
            current=float(current),
            maximum=float(self._maximum),
            average=self._count * TEN_MINUTES / max(now - self._started, TEN_MINUTES),
            longest_active=self._longest_active / SECOND,
            longest_unacked=self._longest_unacked / SECOND,
            flood=self._flood,
            standing=len(active),
            stale=sum(age >= STALE for age in ages),
            unacknowledged=len(waiting),
            shelved=sum(c.hidden for c in kept),
            chattering=len(self._noted),
            oldest=min((c.trunk.active_time for c in active), default=0),
            bands=tuple(bands[i] for i in range(len(BANDS))),
        )

    def _in_ten_minutes(self, now: int) -> int:
        while self._recent and now - self._recent[0] >= TEN_MINUTES:
            self._recent.popleft()
        return len(self._recent)


def _waits_since(condition: Condition) -> int:
    """When the oldest thing nobody has acknowledged was raised."""
    branches = (condition.trunk, *condition.branches)
    return min(b.acked_time for b in branches if not b.state.acked)
