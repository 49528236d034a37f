"""NodeIds of our types in ns=2. Generated from enose.xml by `python -m nodesets.generate`."""

TYPES_URI = "http://enose.dev/UA/ENose/"

EnoseDeviceStateMachineType = 1010
BatchExecutionStateMachineType = 1011
BatchDispositionStateMachineType = 1012
EnoseIdentificationType = 1002
EnoseChannelType = 1003
EnoseSensorArrayType = 1004
EnoseEnvironmentType = 1005
EnoseQualityType = 1006
EnoseResultType = 1007
EnoseStreamType = 1008
EnoseDeviceType = 1001
EnoseAnomalyAlarmType = 1020
EnoseAlarmTagsType = 1021
EnoseExceptionType = 1030
EnoseBatchType = 1031
EnoseBatchSummaryType = 1032
BatchControlType = 1033
EnoseLineType = 1034
AgentRecommendationType = 1040
AgentSystemType = 1041
SignatureServiceType = 1042
ModelServiceType = 1043
SecurityServiceType = 1044
ComplianceType = 1045
DiagnosticsType = 1046
EnoseSystemType = 1000
ResultReadyEventType = 2001
BatchStateChangedEventType = 2002
BatchExceptionRaisedEventType = 2003
RecommendationPublishedEventType = 2004
SignatureExecutedEventType = 2005
AuditBatchActionEventType = 2010
AuditElectronicSignatureEventType = 2011

DeviceHealthEnum = 3001
DeviceStateEnum = 3002
ExecutionCycleEnum = 3003
AcquisitionResultStatusEnum = 3004
PhaseEnum = 3005
ChannelQualityEnum = 3006
VerdictEnum = 3007
BatchExecutionStateEnum = 3008
BatchDispositionStateEnum = 3009
ExceptionDispositionEnum = 3010
AgentModeEnum = 3011
RecommendationStateEnum = 3012

# States: string identifiers.
1
s = EnoseDeviceStateMachineType_Powerup = "1;s=EnoseDeviceStateMachineType.Powerup"
1
s = EnoseDeviceStateMachineType_Operating = "1;s=EnoseDeviceStateMachineType.Operating"
1
s = EnoseDeviceStateMachineType_Local = "1;s=EnoseDeviceStateMachineType.Local"
1
s = EnoseDeviceStateMachineType_Maintenance = "1;s=EnoseDeviceStateMachineType.Maintenance"
1
s = EnoseDeviceStateMachineType_Shutdown = "1;s=EnoseDeviceStateMachineType.Shutdown"
1
s = BatchExecutionStateMachineType_Idle = "1;s=BatchExecutionStateMachineType.Idle"
1
s = BatchExecutionStateMachineType_Running = "1;s=BatchExecutionStateMachineType.Running"
1
s = BatchExecutionStateMachineType_Holding = "1;s=BatchExecutionStateMachineType.Holding"
1
s = BatchExecutionStateMachineType_Held = "1;s=BatchExecutionStateMachineType.Held"
1
s = BatchExecutionStateMachineType_Restarting = "1;s=BatchExecutionStateMachineType.Restarting"
1
s = BatchExecutionStateMachineType_Completing = "1;s=BatchExecutionStateMachineType.Completing"
1
s = BatchExecutionStateMachineType_Complete = "1;s=BatchExecutionStateMachineType.Complete"
1
s = BatchExecutionStateMachineType_Stopping = "1;s=BatchExecutionStateMachineType.Stopping"
1
s = BatchExecutionStateMachineType_Stopped = "1;s=BatchExecutionStateMachineType.Stopped"
1
s = BatchExecutionStateMachineType_Aborting = "1;s=BatchExecutionStateMachineType.Aborting"
1
s = BatchExecutionStateMachineType_Aborted = "1;s=BatchExecutionStateMachineType.Aborted"
1
s = BatchDispositionStateMachineType_NotReady = "1;s=BatchDispositionStateMachineType.NotReady"
1
s = BatchDispositionStateMachineType_Quarantine = "1;s=BatchDispositionStateMachineType.Quarantine"
1
s = BatchDispositionStateMachineType_UnderReview = "1;s=BatchDispositionStateMachineType.UnderReview"
1
s = BatchDispositionStateMachineType_AwaitingSignature = "1;s=BatchDispositionStateMachineType.AwaitingSignature"
1
s = BatchDispositionStateMachineType_Released = "1;s=BatchDispositionStateMachineType.Released"
1
s = BatchDispositionStateMachineType_Rejected = "1;s=BatchDispositionStateMachineType.Rejected"
1
s = BatchDispositionStateMachineType_Recalled = "1;s=BatchDispositionStateMachineType.Recalled"
