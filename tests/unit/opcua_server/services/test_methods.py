"""Call (Part 4 5.12): what a handler never has to check."""

import asyncio
import math
import struct
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from asyncua import ua
from hypothesis import given
from hypothesis import strategies as st

from nodesets.errors import InvalidState, OutOfRange
from nodesets.model import Caller, Role
from opcua_server.services.limits import Limits
from opcua_server.services.methods import INTEGERS, Audited, Mismatch, StateChange, coerce
from opcua_server.services.nodes import SITE_NS
from tests.conformance.events import event_filter, of_type
from tests.conformance.opcua import Bench, Raw, Users, nid, serve

CODES = ua.StatusCodes
anyio = pytest.mark.asyncio(loop_scope="session")
T = ua.VariantType


class Calls:
    """Handlers of the tests and what they were given."""

    def __init__(self) -> None:
        self.seen: list[tuple[Caller, ua.NodeId, tuple[Any, ...]]] = []
        self.release = asyncio.Event()

    async def double(self, caller: Caller, object_id: ua.NodeId, arguments: tuple[Any, ...]) -> Sequence[Any]:
        self.seen.append((caller, object_id, arguments))
        if arguments[0] == 13:
            raise InvalidState("unlucky")
        if arguments[0] == 14:
            raise OutOfRange("too much")
        if arguments[0] == 15:
            raise ZeroDivisionError
        return (arguments[0] * arguments[1],)

    async def slow(self, caller: Caller, object_id: ua.NodeId, arguments: tuple[Any, ...]) -> Sequence[Any]:
        self.seen.append((caller, object_id, arguments))
        await self.release.wait()
        return (0.0,)


@pytest_asyncio.fixture(loop_scope="session")
async def calls(bench: Bench) -> AsyncIterator[Calls]:
    made = Calls()
    bench.server.link_method(nid("Part.Double"), made.double, lambda c: True)
    bench.server.link_method(nid("Part.Slow"), made.slow, lambda c: True)
    bench.server.link_method(nid("Part.Forbidden"), made.double, lambda c: Role.QA in c.roles)
    yield made
    made.release.set()


@anyio
async def test_a_handler_gets_plain_values_and_its_caller(raw: Raw, calls: Calls) -> None:
    result = await raw.method("Double", ua.Variant(3, T.UInt32), ua.Variant(1.5, T.Float))
    assert result.StatusCode.is_good()
    assert result.OutputArguments == [ua.Variant(4.5, T.Double)]
    caller, object_id, arguments = calls.seen[-1]
    assert (object_id, arguments) == (nid("Part"), (3, 1.5))
    assert (caller.user, caller.roles, caller.address) == ("anna", frozenset({Role.OPERATOR}), "127.0.0.1")
    assert caller.application_uri == "urn:test:client"
    assert caller.session
    assert caller.activated


@anyio
async def test_numbers_of_ignitions_scripts_are_taken_when_nothing_is_lost(raw: Raw, calls: Calls) -> None:
    # Acceptance point 8: Jython sends Int64 and Double.
    assert (await raw.method("Double", ua.Variant(5, T.Int64), ua.Variant(2, T.Int64))).StatusCode.is_good()
    assert calls.seen[-1][2] == (5, 2.0)
    assert (await raw.method("Double", ua.Variant(5.0, T.Double), ua.Variant(0.5, T.Double))).StatusCode.is_good()
    assert calls.seen[-1][2] == (5, 0.5)


@anyio
async def test_a_state_machine_a_call_has_moved_is_told_beside_it(tmp_path: Path) -> None:
    # Part 16 4.4.18, Part 5 6.4.27: AuditUpdateStateEvent of the machine; the client's entry id is in both.
    machine, idle, running = nid("Part"), nid("Idle"), nid("Running")
    moves = Audited(begin=lambda _object, _inputs: lambda _outputs: ({}, [StateChange(machine, idle, running)]))
    users = Users(roles={"anna": frozenset({Role.OPERATOR}), "sec": frozenset({Role.SECURITY_ADMIN})})
    async with serve(tmp_path, users=users) as bench, Raw(bench) as operator, Raw(bench) as auditor:
        bench.server.link_method(nid("Part.Double"), Calls().double, lambda _: True, audited=moves)
        await operator.login()
        await auditor.login("sec")
        paths = ["EventType", "SourceNode", "SourceName", "OldStateId", "NewStateId", "ClientUserId", "Status"]
        wanted = event_filter(paths, of_type(ua.ObjectIds.AuditUpdateMethodEventType))
        number = (await auditor.subscribe()).SubscriptionId
        made = await auditor.monitor(
            number, ua.NodeId(ua.ObjectIds.Server), ua.AttributeIds.EventNotifier, Filter=wanted
        )
        made.StatusCode.check()
        await operator.method("Double", ua.Variant(1, T.UInt32), ua.Variant(1.0, T.Float))
        told: list[list[Any]] = []
        while len(told) < 2:
            told += [[field.Value for field in fields] for fields in await auditor.next_data()]
        by_type = {kind.Identifier: rest for kind, *rest in told}
        assert by_type[ua.ObjectIds.AuditUpdateStateEventType] == [
            machine, "Method/Double", idle, running, "anna", True,
        ]  # fmt: skip
        source, name, *_ = by_type[ua.ObjectIds.AuditUpdateMethodEventType]
        assert (source, name) == (nid("Part"), "Attribute/Call")


@anyio
async def test_each_wrong_argument_has_its_own_code(raw: Raw, calls: Calls) -> None:
    # Acceptance point 7: asyncua said Good to anything.
    before = len(calls.seen)
    result = await raw.method("Double", ua.Variant("3", T.String), ua.Variant(1.0, T.Float))
    assert result.StatusCode.value == CODES.BadInvalidArgument
    assert [c.value for c in result.InputArgumentResults] == [CODES.BadTypeMismatch, 0]
    lossy = await raw.method("Double", ua.Variant(-1, T.Int64), ua.Variant(0.1, T.Double))
    assert [c.value for c in lossy.InputArgumentResults] == [CODES.BadTypeMismatch] * 2
    assert (await raw.method("Double", ua.Variant(1, T.UInt32))).StatusCode.value == CODES.BadArgumentsMissing
    three = [ua.Variant(1, T.UInt32)] * 3
    assert (await raw.method("Double", *three)).StatusCode.value == CODES.BadTooManyArguments
    array = await raw.method("Double", ua.Variant([1], T.UInt32), ua.Variant(1.0, T.Float))
    assert [c.value for c in array.InputArgumentResults] == [CODES.BadTypeMismatch, 0]
    assert len(calls.seen) == before


@anyio
async def test_an_argument_described_as_optional_may_be_left_out(raw: Raw, calls: Calls, bench: Bench) -> None:
    # Part 3 5.7.3, decision 2: scripts written before OnBehalfOf existed go on working, and nothing else is optional.
    part = bench.server.asyncua.get_node(nid("Part"))
    texts = [
        ua.Argument(Name=name, DataType=ua.NodeId(ua.ObjectIds.String), ValueRank=-1) for name in ("Reason", "Optional")
    ]
    method = await part.add_method(nid("Part.Short"), ua.QualifiedName("Short", SITE_NS), None, texts, [])
    described = await part.add_variable(nid("Part.Short.Optional"), ua.QualifiedName("Optional", SITE_NS), "")
    await method.add_reference(described, ua.NodeId(131))

    async def short(_caller: Caller, _object: ua.NodeId, arguments: tuple[Any, ...]) -> Sequence[Any]:
        calls.seen.append((_caller, _object, arguments))
        return ()

    bench.server.link_method(nid("Part.Short"), short, lambda c: True)
    given = [ua.Variant(text, T.String) for text in ("because", "anna", "more")]
    for count, expected in ((0, CODES.BadArgumentsMissing), (1, 0), (2, 0), (3, CODES.BadTooManyArguments)):
        assert (await raw.method("Short", *given[:count])).StatusCode.value == expected
    assert [arguments for _, _, arguments in calls.seen[-2:]] == [("because",), ("because", "anna")]
    await bench.server.asyncua.delete_nodes([method, described])


@anyio
async def test_object_and_method_have_to_belong_together(raw: Raw, calls: Calls) -> None:
    two = (ua.Variant(1, T.UInt32), ua.Variant(1.0, T.Float))
    assert (await raw.method("Double", *two, on=nid("Device"))).StatusCode.value == CODES.BadMethodInvalid
    assert (await raw.method("Value", *two)).StatusCode.value == CODES.BadMethodInvalid
    assert (await raw.method("Double", *two, on=nid("Nowhere"))).StatusCode.value == CODES.BadNodeIdUnknown
    assert (await raw.method("Nowhere", *two)).StatusCode.value == CODES.BadMethodInvalid


@anyio
async def test_a_method_nobody_answers_is_not_good(raw: Raw) -> None:
    assert (await raw.method("Missing")).StatusCode.value == CODES.BadNotImplemented
    assert (await raw.read(nid("Part.Missing"), ua.AttributeIds.UserExecutable)).Value.Value is False


@anyio
async def test_permission_comes_before_arguments_and_shows_in_user_executable(
    bench: Bench, raw: Raw, calls: Calls
) -> None:
    # A caller who may not call learns nothing of what the arguments should have been.
    assert (await raw.method("Forbidden")).StatusCode.value == CODES.BadUserAccessDenied
    assert (await raw.read(nid("Part.Forbidden"), ua.AttributeIds.UserExecutable)).Value.Value is False
    async with Raw(bench) as quality:
        await quality.login("bert")
        two = (ua.Variant(1, T.UInt32), ua.Variant(1.0, T.Float))
        assert (await quality.method("Forbidden", *two)).StatusCode.is_good()
        assert (await quality.read(nid("Part.Forbidden"), ua.AttributeIds.UserExecutable)).Value.Value is True


@anyio
async def test_a_call_that_is_not_let_through_is_told_before_it_is_answered(
    bench: Bench, raw: Raw, calls: Calls
) -> None:
    # Every call is on record, whatever became of it (compliance R12; information model 1.6: success and failure).
    told: list[tuple[str, ua.NodeId, int]] = []

    async def refused(caller: Caller, object_id: ua.NodeId, status: int) -> None:
        told.append((caller.user, object_id, status))

    bench.server.link_method(nid("Part.Forbidden"), calls.double, lambda c: Role.QA in c.roles, refused)
    bench.server.link_method(nid("Part.Double"), calls.double, lambda c: True, refused)
    await raw.method("Forbidden")
    await raw.method("Double")
    await raw.method("Double", ua.Variant("one", T.String), ua.Variant(1.0, T.Float))
    await raw.method("Double", ua.Variant(1, T.UInt32), ua.Variant(1.0, T.Float))
    codes = (CODES.BadUserAccessDenied, CODES.BadArgumentsMissing, CODES.BadInvalidArgument)
    assert told == [("anna", nid("Part"), code) for code in codes]


@anyio
async def test_each_error_is_the_answer_to_its_own_call(raw: Raw, calls: Calls) -> None:
    codes = {12: 0, 13: CODES.BadInvalidState, 14: CODES.BadOutOfRange, 15: CODES.BadInternalError}
    requests = [
        ua.CallMethodRequest(
            ObjectId=nid("Part"),
            MethodId=nid("Part.Double"),
            InputArguments=[ua.Variant(argument, T.UInt32), ua.Variant(1.0, T.Float)],
        )
        for argument in codes
    ]
    answer = await raw.call(ua.CallRequest(Parameters=ua.CallParameters(MethodsToCall=requests)))
    assert [r.StatusCode.value for r in answer.Results] == list(codes.values())


@anyio
async def test_a_long_method_delays_nothing_on_its_connection(raw: Raw, calls: Calls) -> None:
    # asyncua answered a Read 2.8 s late behind a method of 3 s; a client's watchdog then gave the server up.
    request = ua.CallMethodRequest(
        ObjectId=nid("Part"),
        MethodId=nid("Part.Slow"),
        InputArguments=[ua.Variant(1, T.UInt32), ua.Variant(1.0, T.Float)],
    )
    number = raw.write(ua.CallRequest(Parameters=ua.CallParameters(MethodsToCall=[request])))
    assert (await raw.read(nid("Part.Text"))).StatusCode.is_good()
    calls.release.set()
    assert (await raw.answer(number, "CallResponse")).Results[0].StatusCode.is_good()


@anyio
async def test_calls_under_way_are_bounded(raw: Raw, calls: Calls) -> None:
    request = ua.CallMethodRequest(
        ObjectId=nid("Part"),
        MethodId=nid("Part.Slow"),
        InputArguments=[ua.Variant(1, T.UInt32), ua.Variant(1.0, T.Float)],
    )
    call = ua.CallRequest(Parameters=ua.CallParameters(MethodsToCall=[request]))
    for _ in range(Limits().tasks):
        raw.write(call)
    with pytest.raises(ua.UaStatusCodeError) as refused:
        await raw.call(call)
    assert refused.value.code == CODES.BadTooManyOperations


def test_a_handler_is_linked_to_a_method_only(bench: Bench) -> None:
    async def nothing(*_: object) -> tuple[()]:
        return ()

    with pytest.raises(LookupError):
        bench.server.link_method(nid("Part"), nothing, lambda c: True)


@given(st.sampled_from(sorted(INTEGERS, key=lambda t: t.value)), st.integers(-(2**63), 2**63 - 1))
def test_an_integer_survives_or_is_refused(wanted: Any, value: int) -> None:
    low, high = INTEGERS[wanted]
    if low <= value <= high:
        assert coerce(ua.Variant(value, T.Int64), wanted.value) == value
    else:
        with pytest.raises(Mismatch):
            coerce(ua.Variant(value, T.Int64), wanted.value)


@given(st.floats())
def test_a_double_becomes_a_float_only_when_it_is_one(value: float) -> None:
    try:
        taken = coerce(ua.Variant(value, T.Double), T.Float.value)
    except Mismatch:
        narrow = struct.unpack("<f", struct.pack("<f", value))[0] if abs(value) < 3.4e38 else math.inf
        assert narrow != value
    else:
        assert math.isnan(value) or struct.unpack("<f", struct.pack("<f", taken))[0] == value


@pytest.mark.parametrize(
    ("variant", "wanted"),
    [
        (ua.Variant(True, T.Boolean), T.Int32),  # not a number, though Python thinks so
        (ua.Variant(1, T.Int32), T.Boolean),
        (ua.Variant(1, T.Int32), T.String),
        (ua.Variant("1", T.String), T.Int32),
        (ua.Variant(1.5, T.Double), T.Int32),
        (ua.Variant(float("nan"), T.Double), T.Int32),
        (ua.Variant(float("inf"), T.Double), T.Int64),
        (ua.Variant(2**53 + 1, T.Int64), T.Double),
        (ua.Variant(), T.Double),
    ],
)
def test_what_would_change_is_refused(variant: ua.Variant, wanted: Any) -> None:
    with pytest.raises(Mismatch):
        coerce(variant, wanted.value)


def test_null_text_is_empty_text() -> None:
    assert coerce(ua.Variant(None, T.String), T.String.value) == ""
    assert coerce(ua.Variant(), T.String.value) == ""
    assert coerce(ua.Variant(None, T.ByteString), T.ByteString.value) == b""
    assert coerce(ua.Variant(), T.ByteString.value, 1) == []
    assert coerce(ua.Variant(None, T.String, is_array=True), T.String.value, 1) == []
