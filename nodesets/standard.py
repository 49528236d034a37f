"""The standard types (ns0) ours derive from or contain, with the members an instance has. NodeIds: Part 6 Annex A.

Only what is mandatory, and the optional members used here; a test compares every row with the published nodeset.
"""

from collections.abc import Mapping

from nodesets.declarations import Argument, Declaration, Method, Rule, Type, item, prop, variable

DATA_TYPES: Mapping[str, int] = {
    "Boolean": 1, "SByte": 2, "Byte": 3, "Int16": 4, "UInt16": 5, "Int32": 6, "UInt32": 7, "Int64": 8, "UInt64": 9,
    "Float": 10, "Double": 11, "String": 12, "DateTime": 13, "ByteString": 15, "NodeId": 17, "StatusCode": 19,
    "QualifiedName": 20, "LocalizedText": 21, "BaseDataType": 24, "Number": 26, "Enumeration": 29, "IdType": 256,
    "Duration": 290, "NumericRange": 291, "UtcTime": 294, "Argument": 296, "Range": 884, "EUInformation": 887,
    "EnumValueType": 7594,
}  # fmt: skip
REFERENCE_TYPES: Mapping[str, int] = {
    "Organizes": 35, "HasEventSource": 36, "HasModellingRule": 37, "HasTypeDefinition": 40, "HasSubtype": 45,
    "HasProperty": 46, "HasComponent": 47, "HasNotifier": 48, "FromState": 51, "ToState": 52,
    "HasOptionalInputArgumentDescription": 131, "HasCondition": 9006, "HasAlarmSuppressionGroup": 16361,
    "AlarmGroupMember": 16362, "HasInterface": 17603, "AlarmSuppressionGroupMember": 32059,
}  # fmt: skip
MODELLING_RULES: Mapping[str, int] = {"Mandatory": 78, "Optional": 80, "OptionalPlaceholder": 11508}


def _method(name: str, *inputs: Argument, outputs: tuple[Argument, ...] = (), rule: Rule = "Mandatory") -> Declaration:
    return Declaration(name=name, node_class="Method", rule=rule, method=Method(inputs=inputs, outputs=outputs))


def _two_state(name: str, rule: Rule = "Mandatory") -> Declaration:
    return variable(name, "LocalizedText", type="TwoStateVariableType", rule=rule)


def _condition_variable(name: str, data_type: str) -> Declaration:
    return variable(name, data_type, type="ConditionVariableType")


def _optional(name: str, data_type: str) -> Declaration:
    return prop(name, data_type, rule="Optional")


_WORDS = Argument(name="Comment", data_type="LocalizedText", description="The comment to add to the condition.")
_COMMENT = (
    Argument(name="EventId", data_type="ByteString", description="The identifier for the event to comment."),
    _WORDS,
)
_SHELVING = Argument(
    name="ShelvingTime", data_type="Duration", description="Milliseconds until the alarm is unshelved by itself."
)
_RESPONSE = Argument(
    name="SelectedResponse", data_type="Int32", description="Which of ResponseOptionSet, counted from 0."
)
_GROUPS = Argument(name="Groups", data_type="NodeId", description="Groups the alarm belongs to.", array=True)


def _with_comment(name: str) -> tuple[Declaration, Declaration]:
    """A method of an alarm and its variant that takes a comment (Part 9 5.8.7 to 5.8.16)."""
    return _method(name, rule="Optional"), _method(f"{name}2", _WORDS, rule="Optional")


_LEVELS = ("HighHigh", "High", "Low", "LowLow")

STANDARD: Mapping[str, Type] = {
    t.name: t
    for t in (
        # Part 5: base types
        Type(name="BaseObjectType", number=58, base=""),
        Type(name="FolderType", number=61, base="BaseObjectType"),
        Type(name="BaseInterfaceType", number=17602, base="BaseObjectType", abstract=True),
        Type(
            name="NamespaceMetadataType",
            number=11616,
            base="BaseObjectType",
            members=(
                prop("NamespaceUri", "String"),
                prop("NamespaceVersion", "String"),
                prop("NamespacePublicationDate", "DateTime"),
                prop("IsNamespaceSubset", "Boolean"),
                prop("StaticNodeIdTypes", "IdType", array=True),
                prop("StaticNumericNodeIdRange", "NumericRange", array=True),
                prop("StaticStringNodeIdPattern", "String"),
            ),
        ),
        Type(name="BaseVariableType", number=62, base="", abstract=True),
        Type(name="BaseDataVariableType", number=63, base="BaseVariableType"),
        Type(name="PropertyType", number=68, base="BaseVariableType"),
        # Part 8: data access
        Type(name="DataItemType", number=2365, base="BaseDataVariableType"),
        Type(
            name="BaseAnalogType", number=15318, base="DataItemType", members=(_optional("InstrumentRange", "Range"),)
        ),
        Type(name="AnalogItemType", number=2368, base="BaseAnalogType", members=(prop("EURange", "Range"),)),
        Type(
            name="AnalogUnitRangeType",
            number=17570,
            base="AnalogItemType",
            members=(prop("EngineeringUnits", "EUInformation"),),
        ),
        Type(name="DiscreteItemType", number=2372, base="DataItemType", abstract=True),
        Type(
            name="MultiStateValueDiscreteType",
            number=11238,
            base="DiscreteItemType",
            members=(prop("EnumValues", "EnumValueType", array=True), prop("ValueAsText", "LocalizedText")),
        ),
        # Part 16: state machines
        Type(
            name="StateVariableType",
            number=2755,
            base="BaseDataVariableType",
            members=(
                prop("Id", "BaseDataType"),
                _optional("Name", "QualifiedName"),
                _optional("Number", "UInt32"),
                _optional("EffectiveDisplayName", "LocalizedText"),
            ),
        ),
        Type(name="FiniteStateVariableType", number=2760, base="StateVariableType", members=(prop("Id", "NodeId"),)),
        Type(
            name="TransitionVariableType",
            number=2762,
            base="BaseDataVariableType",
            members=(
                prop("Id", "BaseDataType"),
                _optional("Name", "QualifiedName"),
                _optional("TransitionTime", "UtcTime"),
            ),
        ),
        Type(
            name="FiniteTransitionVariableType",
            number=2767,
            base="TransitionVariableType",
            members=(prop("Id", "NodeId"),),
        ),
        Type(
            name="StateMachineType",
            number=2299,
            base="BaseObjectType",
            members=(
                variable("CurrentState", "LocalizedText", type="StateVariableType"),
                variable("LastTransition", "LocalizedText", type="TransitionVariableType", rule="Optional"),
            ),
        ),
        Type(
            name="FiniteStateMachineType",
            number=2771,
            base="StateMachineType",
            abstract=True,
            members=(
                variable("CurrentState", "LocalizedText", type="FiniteStateVariableType"),
                variable("LastTransition", "LocalizedText", type="FiniteTransitionVariableType", rule="Optional"),
            ),
        ),
        Type(name="StateType", number=2307, base="BaseObjectType", members=(prop("StateNumber", "UInt32"),)),
        Type(name="InitialStateType", number=2309, base="StateType"),
        Type(name="TransitionType", number=2310, base="BaseObjectType", members=(prop("TransitionNumber", "UInt32"),)),
        # Part 5: events
        Type(
            name="BaseEventType",
            number=2041,
            base="BaseObjectType",
            abstract=True,
            members=(
                prop("EventId", "ByteString"),
                prop("EventType", "NodeId"),
                prop("SourceNode", "NodeId"),
                prop("SourceName", "String"),
                prop("Time", "UtcTime"),
                prop("ReceiveTime", "UtcTime"),
                prop("Message", "LocalizedText"),
                prop("Severity", "UInt16"),
            ),
        ),
        Type(
            name="AuditEventType",
            number=2052,
            base="BaseEventType",
            abstract=True,
            members=(
                prop("ActionTimeStamp", "UtcTime"),
                prop("Status", "Boolean"),
                prop("ServerId", "String"),
                prop("ClientAuditEntryId", "String"),
                prop("ClientUserId", "String"),
            ),
        ),
        Type(
            name="AuditUpdateMethodEventType",
            number=2127,
            base="AuditEventType",
            abstract=True,
            members=(prop("MethodId", "NodeId"), prop("InputArguments", "BaseDataType", array=True)),
        ),
        # Part 9: conditions and alarms
        Type(
            name="TwoStateVariableType",
            number=8995,
            base="StateVariableType",
            members=(
                prop("Id", "Boolean"),
                _optional("TransitionTime", "UtcTime"),
                _optional("EffectiveTransitionTime", "UtcTime"),
            ),
        ),
        Type(
            name="ConditionVariableType",
            number=9002,
            base="BaseDataVariableType",
            members=(prop("SourceTimestamp", "UtcTime"),),
        ),
        Type(
            name="ConditionType",
            number=2782,
            base="BaseEventType",
            abstract=True,
            members=(
                prop("ConditionClassId", "NodeId"),
                prop("ConditionClassName", "LocalizedText"),
                prop("ConditionName", "String"),
                prop("BranchId", "NodeId"),
                prop("Retain", "Boolean"),
                _two_state("EnabledState"),
                _condition_variable("Quality", "StatusCode"),
                _condition_variable("LastSeverity", "UInt16"),
                _condition_variable("Comment", "LocalizedText"),
                prop("ClientUserId", "String"),
                _method("Disable"),
                _method("Enable"),
                _method("AddComment", *_COMMENT),
            ),
        ),
        Type(
            name="DialogConditionType",
            number=2830,
            base="ConditionType",
            members=(
                _two_state("DialogState"),
                prop("Prompt", "LocalizedText"),
                prop("ResponseOptionSet", "LocalizedText", array=True),
                prop("DefaultResponse", "Int32"),
                prop("OkResponse", "Int32"),
                prop("CancelResponse", "Int32"),
                prop("LastResponse", "Int32"),
                _method("Respond", _RESPONSE),
                _method("Respond2", _RESPONSE, _WORDS, rule="Optional"),
            ),
        ),
        Type(
            name="AcknowledgeableConditionType",
            number=2881,
            base="ConditionType",
            members=(
                _two_state("AckedState"),
                _two_state("ConfirmedState", rule="Optional"),
                _method("Acknowledge", *_COMMENT),
                _method("Confirm", *_COMMENT, rule="Optional"),
            ),
        ),
        Type(
            name="ShelvedStateMachineType",
            number=2929,
            base="FiniteStateMachineType",
            members=(
                prop("UnshelveTime", "Duration"),
                _method("TimedShelve", _SHELVING),
                _method("TimedShelve2", _SHELVING, _WORDS, rule="Optional"),
                _method("OneShotShelve"),
                _method("OneShotShelve2", _WORDS, rule="Optional"),
                _method("Unshelve"),
                _method("Unshelve2", _WORDS, rule="Optional"),
            ),
        ),
        Type(
            name="AlarmConditionType",
            number=2915,
            base="AcknowledgeableConditionType",
            members=(
                _two_state("ActiveState"),
                prop("InputNode", "NodeId"),
                _two_state("SuppressedState", rule="Optional"),
                _two_state("OutOfServiceState", rule="Optional"),
                item("ShelvingState", "ShelvedStateMachineType", rule="Optional"),
                prop("SuppressedOrShelved", "Boolean"),
                _optional("MaxTimeShelved", "Duration"),
                _two_state("SilenceState", rule="Optional"),
                _optional("OnDelay", "Duration"),
                _optional("OffDelay", "Duration"),
                variable("FirstInGroupFlag", "Boolean", rule="Optional"),
                _two_state("LatchedState", rule="Optional"),
                _method("Silence", rule="Optional"),
                *_with_comment("Suppress"),
                *_with_comment("Unsuppress"),
                *_with_comment("RemoveFromService"),
                *_with_comment("PlaceInService"),
                *_with_comment("Reset"),
                _method("GetGroupMemberships", outputs=(_GROUPS,), rule="Optional"),
            ),
        ),
        Type(name="AlarmGroupType", number=16405, base="FolderType"),
        Type(name="AlarmSuppressionGroupType", number=32064, base="AlarmGroupType"),
        Type(
            name="LimitAlarmType",
            number=2955,
            base="AlarmConditionType",
            members=(
                _optional("HighHighLimit", "Double"),
                _optional("HighLimit", "Double"),
                _optional("LowLimit", "Double"),
                _optional("LowLowLimit", "Double"),
                *(_optional(f"Severity{level}", "UInt16") for level in _LEVELS),
                *(_optional(f"{level}Deadband", "Double") for level in _LEVELS),
            ),
        ),
        Type(name="ExclusiveLimitStateMachineType", number=9318, base="FiniteStateMachineType"),
        Type(
            name="ExclusiveLimitAlarmType",
            number=9341,
            base="LimitAlarmType",
            members=(item("LimitState", "ExclusiveLimitStateMachineType"),),
        ),
        Type(name="ExclusiveLevelAlarmType", number=9482, base="ExclusiveLimitAlarmType"),
        Type(
            name="ExclusiveDeviationAlarmType",
            number=9764,
            base="ExclusiveLimitAlarmType",
            members=(prop("SetpointNode", "NodeId"),),
        ),
        Type(
            name="NonExclusiveLimitAlarmType",
            number=9906,
            base="LimitAlarmType",
            members=(
                _two_state("HighHighState", rule="Optional"),
                _two_state("HighState", rule="Optional"),
                _two_state("LowState", rule="Optional"),
                _two_state("LowLowState", rule="Optional"),
            ),
        ),
        Type(name="NonExclusiveLevelAlarmType", number=10060, base="NonExclusiveLimitAlarmType"),
        Type(
            name="AlarmRateVariableType",
            number=17277,
            base="BaseDataVariableType",
            members=(prop("Rate", "UInt16"),),
        ),
        Type(
            name="AlarmMetricsType",
            number=17279,
            base="BaseObjectType",
            members=(
                variable("AlarmCount", "UInt32"),
                variable("StartTime", "UtcTime"),
                variable("MaximumActiveState", "Duration"),
                variable("MaximumUnAck", "Duration"),
                variable("CurrentAlarmRate", "Double", type="AlarmRateVariableType"),
                variable("MaximumAlarmRate", "Double", type="AlarmRateVariableType"),
                variable("MaximumReAlarmCount", "UInt32"),
                variable("AverageAlarmRate", "Double", type="AlarmRateVariableType"),
                _method("Reset"),
            ),
        ),
        Type(name="DiscreteAlarmType", number=10523, base="AlarmConditionType"),
        Type(
            name="OffNormalAlarmType",
            number=10637,
            base="DiscreteAlarmType",
            members=(prop("NormalState", "NodeId"),),
        ),
        Type(name="SystemOffNormalAlarmType", number=11753, base="OffNormalAlarmType"),
        Type(name="TripAlarmType", number=10751, base="OffNormalAlarmType"),
        Type(name="InstrumentDiagnosticAlarmType", number=18347, base="OffNormalAlarmType"),
        Type(
            name="CertificateExpirationAlarmType",
            number=13225,
            base="SystemOffNormalAlarmType",
            members=(
                prop("ExpirationDate", "DateTime"),
                _optional("ExpirationLimit", "Duration"),
                prop("CertificateType", "NodeId"),
                prop("Certificate", "ByteString"),
            ),
        ),
    )
}
