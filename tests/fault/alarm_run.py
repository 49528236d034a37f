"""A process that raises, answers and clears alarms until it is killed: prints each notification after it was shown.

`alarm_run.py DATABASE`: the real machine, annunciator, writer and audit log, without network. First it prints how the
alarms stand as an earlier run left them, `= NODE BODY`, then `> EVENT_ID` a notification.
"""

import asyncio
import itertools
import sys
from pathlib import Path
from typing import Any

from compliance import audit
from config.load import load
from historian import schema
from historian.alarms import load as saved
from historian.writer import Writer
from nodesets.errors import EnoseError
from nodesets.model import Finding
from nodesets.ports import SystemClock
from opcua_server.plant import alarm_record
from opcua_server.plant.alarm_states import Condition, Notification
from opcua_server.plant.alarms import Act, Alarms
from opcua_server.plant.annunciator import Annunciator
from opcua_server.plant.events import condition_event
from opcua_server.services.nodes import Event

PLANT = Path(__file__).parents[2] / "config" / "conformance.yaml"
SOURCE = "EN01.Stream01"
SCORE = f"{SOURCE}.Alarms.QualityScoreLow"
SCRIPT = ("Low", "LowLow", "", "Acknowledge", "Low", "", "LowLow", "Acknowledge", "Confirm", "TimedShelve", "", "Low")


class Printed:
    def condition(self, condition: Condition) -> None:
        """Only what is told is printed."""

    def quality(self, condition: Condition) -> None:
        """Only what is told is printed."""

    def event(self, told: Notification) -> Event:
        return condition_event(told, told.branch.time, {})

    def notify(self, event: Event) -> None:
        print(">", event.event_id.hex(), flush=True)


async def main(path: str) -> None:
    engine = schema.engine(f"sqlite:///{path}")
    schema.migrate(engine)
    clock = SystemClock()
    writer = Writer(engine, {}, clock=clock, commit_seconds=0.001, queue=1000, covered=audit.cover_history)
    writer.start()
    alarms = Alarms(load(PLANT))
    alarms.restore(alarm_record.load(alarms, await asyncio.wrap_future(writer.submit(saved))))
    for condition in alarms.moved():
        print("=", condition.node, alarm_record.dump(condition), flush=True)
    annunciator = Annunciator(alarms, lambda work: asyncio.wrap_future(writer.submit(work)), Printed(), clock)
    running = asyncio.create_task(annunciator.run())
    for step in itertools.cycle(SCRIPT):
        if step in ("", "Low", "LowLow"):
            annunciator.find(Finding(kind="QualityScoreLow", source=SOURCE, time=clock.now(), level=step, text=step))
            await annunciator.settled()
        else:
            await act(annunciator, clock.now(), step)
        if running.done():
            running.result()


async def act(annunciator: Annunciator, now: int, name: str) -> None:
    event_id = annunciator[SCORE].trunk.event_id
    done = Act(name=name, event_id=event_id, comment="seen", seconds=0.01, user="olga")
    entry = audit.Entry(time=now, action=f"call.Alarms.{name}", actor="olga", object=SCORE, reason="seen")

    def log(tx: Any) -> None:
        audit.append(tx, entry)

    try:
        await annunciator.act(SCORE, done, log)
    except EnoseError:
        return  # an earlier run had done it


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
