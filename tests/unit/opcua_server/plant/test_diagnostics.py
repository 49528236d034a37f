import pytest

from historian.query import Reader
from historian.schema import reading
from nodesets.errors import StorageError
from nodesets.model import Counters
from opcua_server.plant.diagnostics import HEALTHY, NO_DATA, Diagnostics


class Level:
    service_level = staticmethod(lambda level: levels.append(level))


levels: list[int] = []


@pytest.fixture
def level():
    levels.clear()
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
