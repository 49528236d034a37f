"""The method table."""

import pytest

from compliance.policy import ACTIONS
from nodesets.generate import OBJECTS, methods
from nodesets.methods import METHODS, MethodSpec
from nodesets.model import Role

ROWS = [pytest.param(m, id=m.key) for m in METHODS.values()]
SCALARS = {"Boolean", "Int32", "UInt32", "Double", "String", "DateTime"}


@pytest.mark.parametrize("method", ROWS)
def test_every_argument_is_a_scalar_that_any_scada_can_send(method: MethodSpec) -> None:
    # Ignition, WinCC OA (JSON) and AVEVA pass scalars only (information model 3).
    for argument in (*method.inputs, *method.outputs):
        assert argument.data_type in SCALARS
        assert argument.description.encode("latin-1")


@pytest.mark.parametrize("method", ROWS)
def test_only_on_behalf_of_may_be_left_out_and_it_stands_last(method: MethodSpec) -> None:
    # Part 3 5.7.3: optional inputs follow all others.
    left_out = [a.name for a in method.inputs[method.required :]]
    assert left_out == (["OnBehalfOf"] if method.on_behalf_of else [])


def test_what_a_machine_account_may_do_without_a_signature_can_name_a_person() -> None:
    # Process rule 15: behind a shared session the claimed person is recorded.
    for method in METHODS.values():
        signed = any(a.name == "SignatureId" for a in method.inputs)
        acts = method.object in ("BatchControl", "MethodSet") and method.name != "GetBatchSummary"
        assert method.on_behalf_of == (acts and not signed and bool(method.roles & {Role.MES, Role.OPERATOR}))


def test_the_table_names_the_roles_that_the_policy_enforces() -> None:
    # R13: the sheet an integrator reads must not promise what the server refuses.
    for method in METHODS.values():
        if method.key in ACTIONS:
            assert method.roles == ACTIONS[method.key], method.key


def test_every_method_is_in_the_reference_sheet() -> None:
    # AVEVA cannot browse methods: names, NodeIds and types must be readable (acceptance point 20).
    sheet = methods()
    for method in METHODS.values():
        assert f"\n### {method.name}\n" in sheet
        assert method.object in OBJECTS
        for argument in (*method.inputs, *method.outputs):
            assert argument.description in sheet
