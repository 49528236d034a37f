import pytest

from historian.query import Reader
from historian.schema import reading
from nodesets.errors import StorageError
from nodesets.model import Counters
from opcua_server.plant.diagnostics import DEGRADED, HEALTHY, NO_DATA, Diagnostics


class Level:
    service_level = staticmethod(lambda level: levels.append(level))
    publish_event = staticmethod(lambda event: told.append((event.severity, event.message)))


levels: list[int] = []
told: list[tuple[int, str]] = []


@pytest.fixture
def level():
    levels.clear()
    told.clear()
    return Level()


async def test_a_database_that_cannot_be_read_is_told_and_sampling_goes_on(site, level, tmp_path):
    # Compliance 2.4 item 12: the service level goes down, the service does not.
    made, shown = site
    diagnostics = Diagnostics(made, level, Counters(), [])
    whole = made.reader
    made.reader = Reader(reading(f"sqlite:///{tmp_path / 'nowhere.db'}"))
    with pytest.raises(StorageError):
        await made.reader.read(lambda tx: tx.exec_driver_sql("SELECT 1"))
    await diagnostics.publish()
    made.reader.close()
    made.reader = whole
    await diagnostics.publish()
    assert shown["ENose.Diagnostics.LastError"]
    await diagnostics.publish()
    assert levels == [NO_DATA, HEALTHY, HEALTHY]
    assert shown["ENose.Diagnostics.LastError"] == ""


async def test_a_counter_begins_anew_where_its_node_ends(site, level):
    # A UInt32 beyond its range cannot be encoded: every read of it would fail for good.
    made, shown = site
    await Diagnostics(made, level, Counters(received=2**32 + 5), []).publish()
    assert shown["ENose.Diagnostics.FramesReceived"] == 5


async def test_whoever_watches_is_told_of_the_spool_of_losses_and_of_their_end(site, level):
    # F04, F06, F08: ServiceLevel for a client that chooses its server, events for people.
    made, shown = site
    diagnostics = Diagnostics(made, level, Counters(), [])
    recorder = made.recorder
    await diagnostics.publish()
    recorder.forwarding, recorder.trouble = True, "database is locked"
    await diagnostics.publish()
    await diagnostics.publish()
    recorder._gaps["EN01"], recorder.lost = "lasts", 7
    await diagnostics.publish()
    recorder._gaps.clear()
    recorder.forwarding, recorder.trouble = False, ""
    await diagnostics.publish()
    assert levels == [HEALTHY, DEGRADED, DEGRADED, NO_DATA, HEALTHY]
    assert told == [
        (700, "recordings go to the spool: database is locked"),
        (900, "7 recordings lost and 0 set aside so far"),
        (100, "recordings go to the database again, all of the spool is recorded"),
    ]
    alarms = [(e.severity, e.fields["ActiveState/Id"].Value) for e in shown.events if "Active" in e.message or e.fields]
    assert alarms == [(700, True), (900, True), (900, False)]  # F08, and acknowledged by nobody yet
    assert shown["ENose.Diagnostics.StorageFailure.Acked"] is False


async def test_a_recording_that_is_set_aside_is_an_alarm(site, level):
    # F09: poison goes beside, the others go on, somebody has to look.
    made, shown = site
    diagnostics = Diagnostics(made, level, Counters(), [])
    await diagnostics.publish()
    made.recorder.set_aside += 1
    for _ in range(2):
        await diagnostics.publish()
    assert [(e.severity, e.fields["ActiveState/Id"].Value) for e in shown.events] == [(900, True), (900, False)]
    assert shown.events[0].message == "0 recordings lost and 1 set aside so far"
