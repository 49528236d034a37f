"""What auditors are told of batches: the states before and after a call, and which machine of the line moved."""

import pytest
from asyncua import ua

from nodesets import ids
from nodesets.errors import EnoseError
from nodesets.methods import METHODS
from opcua_server.plant import methods
from opcua_server.plant.audited import Auditing
from opcua_server.services.nodes import TYPES_NS
from opcua_server.services.nodes import site as node_id
from tests.unit.opcua_server.plant.test_methods import OPERATOR
from tests.unit.opcua_server.plant.test_site import approve

CALLED = node_id("L01.BatchControl")
EXECUTION = node_id("L01.Batch.ExecutionState")


def begun(made, method, *texts):
    """`Audited.begin` of a method with these arguments."""
    names = [argument.name for argument in METHODS[f"BatchControl.{method}"].inputs]
    inputs = [ua.Variant(text, ua.VariantType.String) for text in texts]
    return Auditing(made).of(f"BatchControl.{method}", names).begin(CALLED, inputs)


def state(name):
    return ua.NodeId(getattr(ids, f"BatchExecutionStateMachineType_{name}"), TYPES_NS)


async def test_each_machine_that_moved_is_told_with_its_states(site):
    # Acceptance point 30; Part 16 4.4.18.
    made, _ = site
    await made.refresh_all()
    await approve(made)
    finish = begun(made, "CreateBatch", "B1")
    await methods.create_batch(made, OPERATOR, "L01", "B1", "COFFEE-A", "", "", 1.0)
    fields, moved = finish(())
    assert (fields["BatchId"].Value, fields["OldState"].Value) == ("B1", "")
    assert moved == []  # a batch that is made stands where its line stood
    finish = begun(made, "StartBatch", "B1")
    await methods.start_batch(made, OPERATOR, "L01", "B1")
    fields, moved = finish(())
    assert fields["OldState"].Value != fields["NewState"].Value
    assert [(c.machine, c.old, c.new) for c in moved] == [(EXECUTION, state("Idle"), state("Running"))]


async def test_a_call_that_was_refused_moved_nothing(site):
    made, _ = site
    await made.refresh_all()
    finish = begun(made, "StartBatch", "nothing")
    with pytest.raises(EnoseError):
        await methods.start_batch(made, OPERATOR, "L01", "nothing")
    fields, moved = finish(())
    assert (fields["BatchId"].Value, fields["OldState"].Value, moved) == ("nothing", "", [])
