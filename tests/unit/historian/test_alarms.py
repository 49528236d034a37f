"""Alarms on the disk, in either database."""

from dataclasses import replace

import pytest

from historian import alarms, schema
from historian.alarms import Transition
from tests.postgres import new_database

TOLD = Transition(
    time=1, event_id=b"\x01", node="N", source="S", kind="K", branch=0, state="active", level="High", severity=500,
    retain=True, hidden=False, actor="olga", comment="seen", message="S: high",
)  # fmt: skip


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request, tmp_path):
    made = schema.engine(f"sqlite:///{tmp_path / 'enose.db'}" if request.param == "sqlite" else new_database())
    schema.migrate(made)
    yield made
    made.dispose()


def test_states_are_replaced_and_transitions_kept_in_their_order(engine):
    again = replace(TOLD, time=2, event_id=b"\x02", retain=False, hidden=True)
    with engine.begin() as tx:
        assert alarms.save(tx, {"N": "{}", "M": "{}"}, [TOLD]) == [
            ("alarm_state", "N"), ("alarm_state", "M"), ("alarm_transition", 1),
        ]  # fmt: skip
        assert alarms.save(tx, {"M": '{"a": 1}', "O": "{}"}, [again])[-1] == ("alarm_transition", 2)
        assert alarms.save(tx, {}, []) == []
    with engine.begin() as tx:
        assert alarms.load(tx) == {"N": "{}", "M": '{"a": 1}', "O": "{}"}
        assert list(alarms.told(tx, 0, 3)) == [TOLD, again]
        assert list(alarms.told(tx, 2, 3)) == [again]
