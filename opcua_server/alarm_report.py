"""How the alarms of a shift did, against the figures of ISA-18.2 (ANSI/ISA-18.2-2016, clause 16, table 7).

An alarm is an annunciation: a step of the present state into 'active, unacknowledged' that was in sight. From what was
recorded of alarms to a `Report`, and from that to CSV and a picture (SVG). Knows no OPC UA and no storage.
"""

import csv
import io
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from html import escape

from historian.alarms import Transition
from opcua_server.plant.alarm_figures import CHATTER_COUNT, CHATTER_SECONDS, FLOOD, SECOND, TEN_MINUTES, chatters
from opcua_server.plant.alarm_states import State
from opcua_server.plant.alarms import ALARMS

WORST = 10
DIALOGS = frozenset(kind for kind, alarm in ALARMS.items() if alarm.dialog)
"""Conditions that ask: no alarms."""
STALE_SECONDS = 24 * 3600
TARGETS: Mapping[str, tuple[float, str]] = {
    "average per 10 minutes": (1.0, "at most 1 is very likely to be acceptable, 2 is the most one operator manages"),
    "peak in 10 minutes": (10.0, "at most 10"),
    "share of time in flood, %": (1.0, "less than 1"),
    "share of the ten worst, %": (5.0, "1 to 5"),
    "chattering": (0.0, "none"),
    "standing over a day": (5.0, "fewer than 5"),
}
"""Figure -> what it should be at most, and how the standard says so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """An alarm active at the end of the shift."""

    node: str
    severity: int
    since: int
    """ns UTC."""
    acked: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    start: int
    end: int
    """ns UTC."""
    bins: tuple[int, ...]
    """Alarms in each 10 minutes of the shift; the last may be shorter."""
    worst: tuple[tuple[str, int], ...]
    """Alarm and how often it came, most often first."""
    chattering: tuple[tuple[str, int], ...]
    """Likewise, of those that came three times within a minute."""
    standing: tuple[Standing, ...]
    """Oldest first."""
    severities: Mapping[str, int]
    """Alarms by band: information, warning, high, critical."""
    hidden: tuple[tuple[str, str, str], ...]
    """(alarm, who, why) of each act that took an alarm out of sight: the shelving log."""

    @property
    def count(self) -> int:
        return sum(self.bins)

    @property
    def figures(self) -> dict[str, float]:
        """What stands in `TARGETS`."""
        tens = (self.end - self.start) / TEN_MINUTES
        return {
            "average per 10 minutes": self.count / tens if tens else 0.0,
            "peak in 10 minutes": max(self.bins, default=0),
            "share of time in flood, %": 100 * sum(n > FLOOD for n in self.bins) / len(self.bins) if self.bins else 0.0,
            "share of the ten worst, %": 100 * sum(n for _, n in self.worst) / self.count if self.count else 0.0,
            "chattering": len(self.chattering),
            "standing over a day": sum(self.end - s.since >= STALE_SECONDS * SECOND for s in self.standing),
        }


def band(severity: int) -> str:
    """Of a severity (information model 1.5)."""
    return ("information", "warning", "high", "critical")[min(severity, 999) // 250]


def report(told: Iterable[Transition], start: int, end: int) -> Report:
    """`told`: everything recorded before `end`, in order; what began before `start` counts as standing only."""
    before: dict[str, Transition] = {}
    since: dict[str, int] = {}
    raised: defaultdict[str, list[int]] = defaultdict(list)
    severities: Counter[str] = Counter()
    hidden = []
    for t in told:
        if t.branch or t.kind in DIALOGS:
            continue
        state, last = State(t.state), before.get(t.node)
        before[t.node] = t
        if not state.active:
            since.pop(t.node, None)
        else:
            since.setdefault(t.node, t.time)
        if t.time < start:
            continue
        if _annunciated(last, t, state):
            raised[t.node].append(t.time)
            severities[band(t.severity)] += 1
        if t.hidden and not (last and last.hidden) and t.actor:
            hidden.append((t.node, t.actor, t.comment))
    counts = Counter({node: len(times) for node, times in raised.items()})
    return Report(
        start=start,
        end=end,
        bins=_bins([time for times in raised.values() for time in times], start, end),
        worst=tuple(counts.most_common(WORST)),
        chattering=tuple((node, n) for node, n in counts.most_common() if chatters(raised[node])),
        standing=tuple(sorted((_standing(before[node], time) for node, time in since.items()), key=lambda s: s.since)),
        severities={name: severities[name] for name in ("information", "warning", "high", "critical")},
        hidden=tuple(hidden),
    )


def _annunciated(last: Transition | None, now: Transition, state: State) -> bool:
    """Whether it calls the operator: newly unacknowledged, or worse than before, and in sight."""
    if state is not State.UNACKED or now.hidden:
        return False
    return last is None or State(last.state) is not State.UNACKED or now.level != last.level


def _standing(last: Transition, since: int) -> Standing:
    return Standing(node=last.node, severity=last.severity, since=since, acked=State(last.state).acked)


def _bins(times: Sequence[int], start: int, end: int) -> tuple[int, ...]:
    counts = [0] * max(1, -(-(end - start) // TEN_MINUTES))
    for time in times:
        counts[(time - start) // TEN_MINUTES] += 1
    return tuple(counts)


def as_csv(made: Report, zone: tzinfo) -> str:
    """One table: section, what, value, what it should be, remark."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["section", "what", "value", "should be at most", "remark"])
    rows.writerow(["shift", "from", _local(made.start, zone), "", _utc(made.start)])
    rows.writerow(["shift", "to", _local(made.end, zone), "", _utc(made.end)])
    rows.writerow(["shift", "alarms", made.count, "", ""])
    for name, value in made.figures.items():
        most, words = TARGETS[name]
        rows.writerow(["figure", name, f"{value:.2f}".rstrip("0").rstrip("."), f"{most:g}", words])
    for name, count in made.severities.items():
        rows.writerow(["severity", name, count, "", ""])
    for node, count in made.worst:
        rows.writerow(["worst", _safe(node), count, "", ""])
    for node, count in made.chattering:
        rows.writerow(["chattering", _safe(node), count, "", f"{CHATTER_COUNT} times within {CHATTER_SECONDS:g} s"])
    for s in made.standing:
        rows.writerow(["standing", _safe(s.node), s.severity, "", f"since {_local(s.since, zone)}"])
    for node, who, why in made.hidden:
        rows.writerow(["hidden", _safe(node), _safe(who), "", _safe(why)])
    for i, count in enumerate(made.bins):
        rows.writerow(["10 minutes", _local(made.start + i * TEN_MINUTES, zone), count, FLOOD, ""])
    return text.getvalue()


def _safe(text: str) -> str:
    """A text that no spreadsheet takes for a formula."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@") else text


def _local(time: int, zone: tzinfo) -> str:
    return datetime.fromtimestamp(time / SECOND, zone).strftime("%Y-%m-%d %H:%M:%S %z")


def _utc(time: int) -> str:
    return datetime.fromtimestamp(time / SECOND, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


WIDTH, HEIGHT, LEFT, TOP, ROW = 960, 260, 60, 50, 22


def as_svg(made: Report, zone: tzinfo) -> str:
    """Alarms of each 10 minutes with the flood's limit, and the ten worst."""
    most = max(FLOOD + 2, *made.bins)
    step = (WIDTH - LEFT - 20) / len(made.bins)
    base = TOP + HEIGHT
    parts = [
        _text(LEFT, 24, f"Alarms {_local(made.start, zone)} to {_local(made.end, zone)}: {made.count}", size=16),
        f'<line x1="{LEFT}" y1="{base}" x2="{WIDTH - 20}" y2="{base}" stroke="#333"/>',
    ]
    for i, count in enumerate(made.bins):
        tall = HEIGHT * count / most
        colour = "#c0392b" if count > FLOOD else "#2c7fb8"
        parts.append(
            f'<rect x="{LEFT + i * step:.1f}" y="{base - tall:.1f}" width="{max(step - 1, 0.5):.1f}" '
            f'height="{tall:.1f}" fill="{colour}"/>'
        )
    limit = base - HEIGHT * FLOOD / most
    parts += [
        f'<path d="M{LEFT} {limit:.1f}H{WIDTH - 20}" stroke="#c0392b" stroke-dasharray="4"/>',
        _text(LEFT, round(limit) - 4, f"flood: more than {FLOOD} in 10 minutes", size=11),
        _text(10, TOP + 10, str(most), size=11),
        _text(10, base, "0", size=11),
    ]
    parts += _worst(made, base + 40)
    height = base + 60 + ROW * (len(made.worst) + 1)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif">'
        f'<rect width="100%" height="100%" fill="white"/>{"".join(parts)}</svg>\n'
    )


def _worst(made: Report, top: int) -> list[str]:
    parts = [_text(LEFT, top, "The ten worst", size=14)]
    most = max((count for _, count in made.worst), default=1)
    for i, (node, count) in enumerate(made.worst, 1):
        y = top + i * ROW
        parts.append(f'<rect x="{LEFT}" y="{y - 12}" width="{360 * count / most:.1f}" height="14" fill="#a6bddb"/>')
        parts.append(_text(LEFT + 4, y, f"{count}  {node}", size=12))
    return parts


def _text(x: int, y: int, words: str, *, size: int) -> str:
    return f'<text x="{x}" y="{y}" font-size="{size}">{escape(words)}</text>'
