"""What the audit events of our methods tell beside the call itself (information model 1.1, acceptance point 30)."""

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from enum import IntEnum
from typing import Any

from asyncua import ua

from compliance.batches import Batch
from nodesets import ids
from nodesets.methods import METHODS
from nodesets.model import DispositionState, ExecutionState
from nodesets.types import state_name
from opcua_server.plant import events
from opcua_server.plant.site import Site
from opcua_server.services.methods import Audited, Finish, StateChange
from opcua_server.services.nodes import TYPES_NS
from opcua_server.services.nodes import site as node_id

BATCH_ACTION = ua.NodeId(ids.AuditBatchActionEventType, TYPES_NS)
SIGNATURE = ua.NodeId(ids.AuditElectronicSignatureEventType, TYPES_NS)
REMEMBERED = 1000
"""Signature requests whose record is known by their id; they expire within minutes."""
SIGNED = ("RecordId", "RecordDigest", "Meaning")

Fields = Mapping[str, Any]


class Auditing:
    """How the calls of each method are told: all of ours put themselves into the audit log."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._requests: OrderedDict[str, dict[str, str]] = OrderedDict()
        """What was asked to be signed, by request id."""

    def of(self, action: str, names: Sequence[str]) -> Audited:
        """Of the method `Object.Name` with arguments of these names."""
        if action.startswith("BatchControl."):
            return Audited(BATCH_ACTION, logged=True, begin=_batch_action(self._site, names))
        if action.startswith("Signatures."):
            return Audited(SIGNATURE, logged=True, begin=self._signature(action, names))
        return Audited(logged=True)

    def _signature(self, action: str, names: Sequence[str]) -> Callable[[Any, Sequence[Any]], Finish]:
        returned = [argument.name for argument in METHODS[action].outputs]

        def begin(_called: Any, inputs: Sequence[Any]) -> Finish:
            given = _given(names, inputs)

            def finish(outputs: Sequence[Any]) -> tuple[Fields, Sequence[StateChange]]:
                known = self._recalled(action, given | _given(returned, outputs))
                return {name: events.string(known.get(name, "")) for name in SIGNED}, ()

            return finish

        return begin

    def _recalled(self, action: str, known: dict[str, str]) -> dict[str, str]:
        """With what the request named by its id was made for."""
        request = known.get("SignatureRequestId", "")
        if action == "Signatures.RequestSignature" and request:
            self._requests[request] = known
            while len(self._requests) > REMEMBERED:
                self._requests.popitem(last=False)
        return self._requests.get(request, {}) | known


def _given(names: Sequence[str], inputs: Sequence[Any]) -> dict[str, str]:
    """The texts among the arguments of a call, by name."""
    return {n: v.Value for n, v in zip(names, inputs, strict=False) if isinstance(v.Value, str)}


# Batches


def _batch_action(site: Site, names: Sequence[str]) -> Callable[[Any, Sequence[Any]], Finish]:
    def begin(called: Any, inputs: Sequence[Any]) -> Finish:
        line = str(called.Identifier).rpartition(".")[0]
        batch_id = _given(names, inputs).get("BatchId", "")
        before = _shown(site, line, batch_id)

        def finish(_outputs: Sequence[Any]) -> tuple[Fields, Sequence[StateChange]]:
            after = _shown(site, line, batch_id)
            fields = {
                "BatchId": events.string(batch_id),
                "OldState": events.string(_states(before)),
                "NewState": events.string(_states(after)),
            }
            return fields, _changes(line, before, after)

        return finish

    return begin


def _shown(site: Site, line: str, batch_id: str) -> Batch | None:
    """The batch as its line shows it."""
    batch = site.current.get(line)
    return batch if batch is not None and batch.batch_id == batch_id else None


def _states(batch: Batch | None) -> str:
    return f"{state_name(batch.execution)}, {state_name(batch.disposition)}" if batch else ""


def _changes(line: str, before: Batch | None, after: Batch | None) -> list[StateChange]:
    """What the two state machines of the line's slot did."""
    if after is None:
        return []
    machines: tuple[tuple[str, str, IntEnum, IntEnum], ...] = (
        (
            "ExecutionState",
            "BatchExecutionStateMachineType",
            before.execution if before else ExecutionState.IDLE,
            after.execution,
        ),
        (
            "DispositionState",
            "BatchDispositionStateMachineType",
            before.disposition if before else DispositionState.NOT_READY,
            after.disposition,
        ),
    )
    return [
        StateChange(node_id(f"{line}.Batch.{name}"), _state(machine, old), _state(machine, new))
        for name, machine, old, new in machines
        if old != new
    ]


def _state(machine: str, state: IntEnum) -> Any:
    return ua.NodeId(getattr(ids, f"{machine}_{state_name(state)}"), TYPES_NS)
