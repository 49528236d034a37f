"""The log: what an entry is made of."""

import enum
import hashlib
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import rfc8785
from sqlalchemy import Engine, delete, insert, select, update

from compliance import audit
from compliance.verify import ZERO, brief, leaf, row_digest
from historian.frames import Head
from historian.schema import audit_entry, layout
from nodesets.errors import InvalidArgument
from tests.unit.historian.support import NOW, database, logged, make_layout


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Engine]:
    with database(tmp_path / "enose.db") as engine:
        yield engine


def bodies(made: Engine) -> list[dict[str, object]]:
    with made.begin() as tx:
        return [
            json.loads(body) for body in tx.execute(select(audit_entry.c.body).order_by(audit_entry.c.seq)).scalars()
        ]


def test_entries_form_a_chain(made: Engine) -> None:
    # compliance.md 2.4, items 1 and 2.
    with made.begin() as tx:
        assert [audit.append(tx, logged(reason=str(n))) for n in range(3)] == [0, 1, 2]
        entries = tx.execute(select(audit_entry).order_by(audit_entry.c.seq)).all()
    assert entries[0].prev == ZERO
    assert [entry.prev for entry in entries[1:]] == [entry.leaf for entry in entries[:-1]]
    assert [entry.leaf for entry in entries] == [hashlib.sha256(b"\0" + e.prev + e.body).digest() for e in entries]
    assert leaf(entries[2].prev, entries[2].body) == entries[2].leaf


def test_a_body_is_canonical_and_says_who_what_when_where_and_why(made: Engine) -> None:
    # R05, R07: time with the zone's offset; RFC 8785, so that the same content has the same bytes anywhere.
    entry = audit.Entry(
        time=NOW,
        action="batch.start",
        actor="MES-1",
        object="batch/B-1",
        outcome="BadInvalidState",
        reason="é \u2028 \x01",
        old={"b": 1, "a": [None, True]},
        new="x",
        on_behalf_of="bob",
        session="ns=1;i=5",
        application_uri="urn:mes",
        address="10.0.0.7",
    )
    with made.begin() as tx:
        audit.append(tx, entry)
        stored = tx.execute(select(audit_entry)).one()
    body = json.loads(stored.body)
    assert stored.body == rfc8785.dumps(body)
    assert body == {
        "v": 1,
        "time": str(NOW),
        "utc_offset": time.localtime(NOW // 10**9).tm_gmtoff,
        "action": "batch.start",
        "actor": "MES-1",
        "object": "batch/B-1",
        "outcome": "BadInvalidState",
        "reason": "é \u2028 \x01",
        "old": {"b": 1, "a": [None, True]},
        "new": "x",
        "on_behalf_of": "bob",
        "session": "ns=1;i=5",
        "application_uri": "urn:mes",
        "address": "10.0.0.7",
        "records": {},
    }
    assert (stored.schema_ver, stored.ts) == (1, NOW)
    assert (stored.actor, stored.action, stored.object) == ("MES-1", "batch.start", "batch/B-1")
    assert stored.outcome == "BadInvalidState"


def test_the_offset_is_that_of_the_zone_at_that_time(made: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    # F17: an entry of the summer keeps the summer's offset.
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        with made.begin() as tx:
            for moment in (1_782_000_000, 1_796_000_000):  # June and November 2026
                audit.append(tx, audit.Entry(time=moment * 10**9, action="a", actor="b", object="c"))
    finally:
        monkeypatch.undo()
        time.tzset()
    assert [body["utc_offset"] for body in bodies(made)] == [7200, 3600]


class Level(enum.IntEnum):
    HIGH = 3


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (1.0, "1.0"),
        (float("nan"), "nan"),
        (float("-inf"), "-inf"),
        (0.1 + 0.2, "0.30000000000000004"),
        (2**53 - 1, 2**53 - 1),
        (2**53, str(2**53)),
        (-(2**63), str(-(2**63))),
        (Level.HIGH, 3),
        (b"\x00\xff", "00ff"),
        ((1, 2.5, {"k": 2.5}), [1, "2.5", {"k": "2.5"}]),
        (False, False),
    ],
)
def test_no_value_loses_anything_on_its_way_into_a_body(made: Engine, value: object, written: object) -> None:
    # RFC 8785 writes 1.0 as 1, has no NaN, and cuts integers beyond 2**53.
    with made.begin() as tx:
        audit.append(tx, logged(old=value))
    assert bodies(made)[0]["old"] == written


def test_what_json_cannot_hold_is_refused(made: Engine) -> None:
    with made.begin() as tx, pytest.raises(TypeError, match="object"):
        audit.append(tx, logged(new=object()))


def test_a_body_that_just_fits_is_kept_whole(made: Engine) -> None:
    with made.begin() as tx:
        audit.append(tx, logged(new=""))
        empty = len(tx.execute(select(audit_entry.c.body)).scalar_one())
        audit.append(tx, logged(new="x" * (audit.LONGEST_BODY - empty)))
        audit.append(tx, logged(new="x" * (audit.LONGEST_BODY - empty + 1)))
        lengths = [len(body) for body in tx.execute(select(audit_entry.c.body).order_by(audit_entry.c.seq)).scalars()]
    assert lengths[1] == 65_503
    assert lengths[2] < 1000


def test_of_a_body_too_long_the_longer_value_is_replaced_by_its_digest(made: Engine) -> None:
    # A tlog-tiles entry has a 16-bit length. The digest is that of the value's own canonical JSON.
    small, large, larger = {"n": 1.5}, ["x" * 60_000], ["y" * 70_000]
    with made.begin() as tx:
        audit.append(tx, logged(old=small, new=larger))
        audit.append(tx, logged(old=large, new=larger))
        audit.append(tx, logged(old=larger, new=larger))
    first, second, third = bodies(made)
    digest = {"sha256": hashlib.sha256(rfc8785.dumps(larger)).hexdigest(), "bytes": len(rfc8785.dumps(larger))}
    assert (first["old"], first["new"]) == ({"n": "1.5"}, digest)
    assert (second["old"], second["new"]) == (large, digest)
    assert (third["old"], third["new"]) == (digest, digest)


def test_an_entry_too_long_for_other_causes_is_refused(made: Engine) -> None:
    # A reason cut short would be a reason obscured.
    with pytest.raises(InvalidArgument, match="65503"), made.begin() as tx:
        audit.append(tx, logged(reason="x" * 70_000))
    assert bodies(made) == []


def test_records_name_each_row_as_it_is_in_the_transaction(made: Engine) -> None:
    with made.begin() as tx:
        number = make_layout(tx, "G")
        tx.execute(update(layout).where(layout.c.id == number).values(tag_group="H"))
        audit.append(tx, logged(), [("layout", number)])
        tx.execute(delete(layout).where(layout.c.id == number))
        audit.append(tx, logged(), [("layout", number)])
    columns = [("id", number), ("columns", "[]")]
    assert [body["records"] for body in bodies(made)] == [
        {"layout/1": row_digest("layout", [*columns, ("tag_group", "G")])},
        {"layout/1": row_digest("layout", [*columns, ("tag_group", "H")])},
        {"layout/1": None},
    ]


def test_no_two_rows_have_the_same_canonical_bytes() -> None:
    # Names, types and lengths stand in the bytes: content cannot move from one column to its neighbour.
    rows = [
        ("t", [("a", "1"), ("b", "2")]),
        ("t", [("a", "1b1"), ("c", "2")]),
        ("t", [("a", "12"), ("b", "")]),
        ("t", [("a", "12")]),
        ("t", [("a", 12)]),
        ("t", [("a", 12.0)]),
        ("t", [("a", b"12")]),
        ("ta", [("", "12")]),
        ("t", []),
    ]
    assert len({row_digest(table, row) for table, row in rows}) == len(rows)  # type: ignore[arg-type]


def test_a_column_added_later_leaves_the_digests_of_older_rows() -> None:
    # R34: a migration never forces old entries to be rewritten.
    assert row_digest("t", [("a", 1)]) == row_digest("t", [("b", None), ("a", 1)])


def test_history_is_covered_from_where_the_last_entry_ended(made: Engine) -> None:
    # A layout that has nothing new is not named again.
    one, two, three = (Head(number, bytes([number]) * 32) for number in (1, 2, 3))
    with made.begin() as tx:
        audit.cover_history(tx, NOW, {}, ())
        audit.cover_history(tx, NOW, {7: one, 8: two}, ())
        audit.cover_history(tx, NOW, {7: one, 8: two}, ())
        audit.cover_history(tx, NOW, {7: three, 8: two}, ())
    assert [body["new"] for body in bodies(made)] == [
        {"frame": 2, "heads": {"7": [1, brief(one.link)], "8": [2, brief(two.link)]}},
        {"frame": 3, "heads": {"7": [3, brief(three.link)]}},
    ]


def test_any_number_of_layouts_is_covered(made: Engine) -> None:
    # An entry has its length; a site has its devices.
    heads = {number: Head(number, bytes(32)) for number in range(1, 1001)}
    with made.begin() as tx:
        layouts = [tx.execute(insert(layout).values(tag_group=str(n), columns="[]")).lastrowid for n in range(1000)]
        audit.cover_history(tx, NOW, heads, [("layout", number) for number in layouts])
    said = bodies(made)
    assert {name for body in said for name in body["new"]["heads"]} == {str(number) for number in heads}
    assert sum(len(body["records"]) for body in said) == 1000
