"""node-opcua's own alarm client on the playground's alarms (rows T-42 to T-46 of README.md)."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
import pytest_asyncio

from tests.conformance.plant import Plant, running_plant
from tests.interop.client import NodeOpcua, missing

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(bool(missing()), reason=missing() or "installed"),
]
SCORE = "ns=3;s=EN01.Stream01.Alarms.QualityScoreLow"
DRIVE = "ns=3;s=Playground.Alarms.Score"


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plant]:
    with running_plant(tmp_path_factory.mktemp("alarms")) as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(plant: Plant) -> AsyncIterator[NodeOpcua]:
    async with NodeOpcua(plant.running.data.parent / "node") as made:
        plant.running.trust(made.certificate)
        await made.connect(
            plant.url,
            server_certificate=plant.running.data / "pki/own/certs/enose.der",
            user="op1",
            password=plant.running.passwords["op1"],
        )
        yield made


async def until(client: NodeOpcua, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The alarm, once the client's list has it as wanted."""
    async with asyncio.timeout(60):
        while True:
            for alarm in await client.alarms():
                if alarm["conditionId"] == SCORE and wanted(alarm):
                    return alarm
            await asyncio.sleep(0.1)


async def drive(client: NodeOpcua, value: float) -> None:
    assert (await client.write(DRIVE, value)).good


async def test_an_alarm_lives_in_the_clients_own_list(client: NodeOpcua) -> None:
    # T-42, T-43, T-44: raised before the client subscribed, it comes by ConditionRefresh; then answered for.
    await drive(client, 30.0)
    raised = await until(client, lambda a: a["active"] and not a["acked"])
    assert (raised["retain"], raised["confirmed"]) == (True, True)
    assert (await client.answer("acknowledge", SCORE, raised["eventId"], "seen by node-opcua")).good
    acked = await until(client, lambda a: a["acked"])
    assert not acked["confirmed"]
    again = await client.answer("acknowledge", SCORE, raised["eventId"], "again")
    assert again.name == "BadConditionBranchAlreadyAcked"
    assert (await client.answer("confirm", SCORE, acked["eventId"], "done")).good
    confirmed = await until(client, lambda a: a["confirmed"])
    assert (await client.answer("confirm", SCORE, confirmed["eventId"], "again")).name == (
        "BadConditionBranchAlreadyConfirmed"
    )


async def test_it_is_shelved_and_unshelved(client: NodeOpcua) -> None:
    # T-45
    shelving = f"{SCORE}.ShelvingState"
    shelved = await client.call(shelving, f"{shelving}.TimedShelve", 60_000.0)
    assert shelved.status.good
    await until(client, lambda a: a["shelving"] == "TimedShelved")
    late = await client.call(shelving, f"{shelving}.TimedShelve", 1e9)
    assert late.status.name == "BadShelvingTimeOutOfRange"
    assert (await client.call(SCORE, "i=2947")).status.good  # Unshelve through the type, on the condition
    await until(client, lambda a: a["shelving"] == "Unshelved")


async def test_what_is_over_leaves_the_list(client: NodeOpcua) -> None:
    # T-46
    await drive(client, 100.0)
    async with asyncio.timeout(60):
        while any(a["conditionId"] == SCORE and a["retain"] for a in await client.alarms()):
            await asyncio.sleep(0.1)
