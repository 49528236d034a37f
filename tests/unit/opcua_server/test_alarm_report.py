"""The report of a shift, from what was recorded."""

import csv
import xml.etree.ElementTree as ET
from zoneinfo import ZoneInfo

from historian.alarms import Transition
from opcua_server import alarm_report
from opcua_server.plant.alarm_states import State

SECOND = 1_000_000_000
HOUR = 3600 * SECOND
START = 1_767_225_600 * SECOND  # 2026-01-01T00:00:00Z
ZONE = ZoneInfo("Europe/Berlin")


def told(node, seconds, state, *, level="High", severity=600, hidden=False, actor="", comment="", branch=0):
    return Transition(
        time=START + round(seconds * SECOND), event_id=b"", node=node, source="EN01", kind="K", branch=branch,
        state=state.value, level=level if state.active else "", severity=severity, retain=True, hidden=hidden,
        actor=actor, comment=comment, message="",
    )  # fmt: skip


def raised_and_over(node, seconds, **further):
    return [told(node, seconds, State.UNACKED, **further), told(node, seconds + 1, State.RETURNED, **further)]


def made(*rows):
    return alarm_report.report(sorted(rows, key=lambda t: t.time), START, START + 8 * HOUR)


def test_a_quiet_shift_has_nothing_to_say():
    report = made()
    assert (report.count, len(report.bins), report.worst, report.standing) == (0, 48, (), ())
    assert set(report.figures) == set(alarm_report.TARGETS)


def test_alarms_are_counted_once_each_and_by_band():
    rows = [*raised_and_over("A", 10), told("A", 12, State.NORMAL, actor="olga", comment="seen")]
    rows += [told("B", 20, State.UNACKED, severity=300), told("B", 21, State.UNACKED, severity=800, level="HighHigh")]
    rows += [told("B", 22, State.RETURNED, branch=1)]
    report = made(*rows)
    assert report.count == 3
    assert report.severities == {"information": 0, "warning": 1, "high": 1, "critical": 1}
    assert report.worst == (("B", 2), ("A", 1))


def test_peak_flood_and_average_are_of_ten_minutes():
    rows = [row for i in range(12) for row in raised_and_over(f"A{i}", i * 5)]
    figures = made(*rows).figures
    assert figures["peak in 10 minutes"] == 12
    assert figures["average per 10 minutes"] == 12 / 48
    assert figures["share of time in flood, %"] == 100 / 48


def test_chattering_and_standing_alarms_are_named():
    rows = [row for i in range(3) for row in raised_and_over("A", i * 10)]
    rows.append(told("B", -48 * 3600, State.UNACKED))
    rows.append(told("C", 100, State.ACTIVE))
    report = made(*rows)
    assert report.chattering == (("A", 3),)
    assert [(s.node, s.acked) for s in report.standing] == [("B", False), ("C", True)]
    assert report.figures["standing over a day"] == 1


def test_what_was_hidden_by_whom_and_why_is_the_shelving_log():
    rows = [told("A", 10, State.ACTIVE, hidden=True, actor="olga", comment="=noisy")]
    assert made(*rows).hidden == (("A", "olga", "=noisy"),)


def test_the_csv_says_what_the_figures_should_be_and_runs_no_formula():
    rows = [*raised_and_over("A", 10), told("A", 20, State.ACTIVE, hidden=True, actor="olga", comment="=1+1")]
    text = alarm_report.as_csv(made(*rows), ZONE)
    table = list(csv.DictReader(text.splitlines()))
    assert {r["section"] for r in table} >= {"shift", "figure", "severity", "worst", "standing", "hidden", "10 minutes"}
    [start] = [r for r in table if r["what"] == "from"]
    assert (start["value"], start["remark"]) == ("2026-01-01 01:00:00 +0100", "2026-01-01T00:00:00Z")
    [hidden] = [r for r in table if r["section"] == "hidden"]
    assert hidden["remark"] == "'=1+1"


def test_the_picture_is_svg_with_a_bar_each_ten_minutes():
    rows = [row for i in range(12) for row in raised_and_over("<A>", i * 5)]
    picture = ET.fromstring(alarm_report.as_svg(made(*rows), ZONE))
    bars = picture.findall("{http://www.w3.org/2000/svg}rect")
    assert len(bars) == 48 + 1 + 1  # ten minutes each, the worst, the background
