"""The Server object (Part 5 6.3): what the server says of itself. A node without a true value is not given one."""

from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from asyncua import ua

from nodesets.ports import Clock
from opcua_server.services.content_filters import MAX_ELEMENTS
from opcua_server.services.event_fields import local_time
from opcua_server.services.event_filters import MAX_FIELDS
from opcua_server.services.history import FUNCTIONS
from opcua_server.services.limits import Limits
from opcua_server.services.nodes import SITE_URI, TYPES_URI
from opcua_server.services.status import from_ns

IDS = ua.ObjectIds
T = ua.VariantType
PRODUCT = "enose"
PRODUCT_URI = "http://enose.dev/"
PROFILES = [
    f"http://opcfoundation.org/UA-Profile/Server/{name}"
    for name in (
        "StandardUA2022",
        "StandardUA2017",
        "GlobalCertificateManagement",
        "StandardEventSubscription",
        "DataAccess",
        "Methods",
        "HistoricalRawData",
    )
]
"""What is met whole (Part 7): docs/decisions/0007-profiles.md has what meets the units of the first."""
SERVICE_LIMITS = {
    "MaxNodesPerRead": "nodes",
    "MaxNodesPerWrite": "nodes",
    "MaxNodesPerBrowse": "browse_paths",
    "MaxNodesPerTranslateBrowsePathsToNodeIds": "browse_paths",
    "MaxNodesPerRegisterNodes": "operations",
    "MaxMonitoredItemsPerCall": "operations",
    "MaxNodesPerMethodCall": "method_calls",
    "MaxNodesPerHistoryReadData": "history_nodes",
    "MaxNodesPerHistoryUpdateData": "history_updates",
}
"""OperationLimits (Part 5 6.3.11) and where in `Limits` they stand."""
HISTORY_UPDATE = {
    "InsertDataCapability": True,
    "ReplaceDataCapability": True,
    "UpdateDataCapability": True,
    "DeleteRawCapability": True,
    "DeleteAtTimeCapability": True,
    "InsertEventCapability": False,
    "ReplaceEventCapability": False,
    "UpdateEventCapability": False,
    "DeleteEventCapability": False,
    "InsertAnnotationCapability": True,
}
"""What HistoryUpdate does to variables that take it (Part 11 5.2.6)."""
AGGREGATE_FOLDERS = (
    IDS.Server_ServerCapabilities_AggregateFunctions,
    IDS.HistoryServerCapabilities_AggregateFunctions,
)
"""Where the aggregates offered are listed (Part 13 4.4)."""
NOT_OFFERED = (
    IDS.PublishSubscribe,
    IDS.Resources,
    IDS.ServerLog,
    IDS.DefaultHAConfiguration,
    IDS.DefaultHEConfiguration,
    IDS.Server_SetSubscriptionDurable,
    IDS.Server_RequestServerStateChange,
    IDS.Server_ServerRedundancy_RedundantServerArray,
    IDS.Server_ServerCapabilities_OperationLimits_MaxNodesPerNodeManagement,
    IDS.Server_ServerCapabilities_OperationLimits_MaxNodesPerHistoryUpdateEvents,
    IDS.TagVariables,
    IDS.Topics,
    IDS.Aliases,
    IDS.OPCUANamespaceMetadata_DefaultRolePermissions,
    IDS.OPCUANamespaceMetadata_DefaultUserRolePermissions,
    IDS.OPCUANamespaceMetadata_DefaultAccessRestrictions,
)
"""Standard nodes of functions this server does not have."""
NEVER = datetime(1601, 1, 1, tzinfo=UTC)
STATUS_NODES = tuple(map(ua.NodeId, (IDS.Server_ServerStatus, IDS.Server_ServerStatus_CurrentTime)))
"""What is as old as its reading."""
PUBLISHED = datetime(2025, 1, 1, tzinfo=UTC)
"""Publication date of our two namespaces."""


def software_version() -> str:
    return version(PRODUCT)


class ServerObject:
    """Writes the nodes of the Server object straight into asyncua's storage."""

    def __init__(self, asyncua: Any, write: Any, clock: Clock, application_uri: str) -> None:
        self._asyncua = asyncua
        self._write = write
        self._clock = clock
        self._application_uri = application_uri
        self._status = ua.ServerStatusDataType()

    async def fill(self, limits: Limits) -> None:
        """Everything that stays as it is while the server runs."""
        await self._asyncua.set_application_uri(self._application_uri)
        for uri in (TYPES_URI, SITE_URI):
            await self._asyncua.register_namespace(uri)
        for node, value in self._constants(limits).items():
            self._set(node, value)
        for folder in AGGREGATE_FOLDERS:
            for function in FUNCTIONS:
                await self._asyncua.get_node(folder).add_reference(function, IDS.HasComponent)

    def _constants(self, limits: Limits) -> Mapping[int, Any]:
        per_call = {name: ua.Variant(getattr(limits, limit), T.UInt32) for name, limit in SERVICE_LIMITS.items()}
        prefix = "Server_ServerCapabilities_"
        capabilities = {
            "ServerProfileArray": ua.Variant(PROFILES, T.String, is_array=True),
            "SoftwareCertificates": ua.Variant([], T.ExtensionObject, is_array=True),
            "MaxSelectClauseParameters": ua.Variant(MAX_FIELDS, T.UInt32),
            "MaxWhereClauseParameters": ua.Variant(MAX_ELEMENTS, T.UInt32),
            "ConformanceUnits": ua.Variant([], T.QualifiedName, is_array=True),
            "LocaleIdArray": ua.Variant(["en"], T.String, is_array=True),
            "MinSupportedSampleRate": ua.Variant(limits.sampling_interval, T.Double),
            "MaxBrowseContinuationPoints": ua.Variant(limits.continuation_points, T.UInt16),
            "MaxQueryContinuationPoints": ua.Variant(0, T.UInt16),
            "MaxHistoryContinuationPoints": ua.Variant(limits.history_points, T.UInt16),
            "MaxArrayLength": ua.Variant(limits.array, T.UInt32),
            "MaxStringLength": ua.Variant(limits.string, T.UInt32),
            "MaxByteStringLength": ua.Variant(limits.string, T.UInt32),
            "MaxSessions": ua.Variant(limits.sessions, T.UInt32),
            "MaxSubscriptions": ua.Variant(limits.subscriptions, T.UInt32),
            "MaxMonitoredItems": ua.Variant(limits.items * limits.sessions, T.UInt32),
            "MaxSubscriptionsPerSession": ua.Variant(limits.subscriptions_per_session, T.UInt32),
            "MaxMonitoredItemsPerSubscription": ua.Variant(limits.items, T.UInt32),
            "MaxMonitoredItemsQueueSize": ua.Variant(limits.queue, T.UInt32),
        }
        found = {f"{prefix}{name}": value for name, value in capabilities.items()}
        found |= {f"{prefix}OperationLimits_{name}": value for name, value in per_call.items()}
        found |= {
            "Server_Auditing": ua.Variant(True, T.Boolean),
            "Server_ServerRedundancy_RedundancySupport": ua.Variant(ua.RedundancySupport.None_, T.Int32),
            "HistoryServerCapabilities_AccessHistoryDataCapability": ua.Variant(True, T.Boolean),
            "HistoryServerCapabilities_AccessHistoryEventsCapability": ua.Variant(False, T.Boolean),
            "HistoryServerCapabilities_MaxReturnDataValues": ua.Variant(limits.history_page, T.UInt32),
            "HistoryServerCapabilities_MaxReturnEventValues": ua.Variant(0, T.UInt32),
            "HistoryServerCapabilities_ServerTimestampSupported": ua.Variant(True, T.Boolean),
            "Server_EstimatedReturnTime": ua.Variant(NEVER, T.DateTime),
            "Server_UrisVersion": ua.Variant(1, T.UInt32),
            "OPCUANamespaceMetadata_StaticStringNodeIdPattern": ua.Variant("", T.String),
        }
        found |= {
            f"HistoryServerCapabilities_{name}": ua.Variant(can, T.Boolean) for name, can in HISTORY_UPDATE.items()
        }
        return {getattr(IDS, name): value for name, value in found.items()}

    # -- status

    def start(self) -> None:
        """Running, since now, as this product and version."""
        now = from_ns(self._clock.now())
        self._status = ua.ServerStatusDataType(
            StartTime=now,
            CurrentTime=now,
            State=ua.ServerState.Running,
            BuildInfo=ua.BuildInfo(
                ProductUri=PRODUCT_URI,
                ManufacturerName=PRODUCT,
                ProductName=PRODUCT,
                SoftwareVersion=software_version(),
                BuildNumber=software_version(),
                BuildDate=PUBLISHED,
            ),
        )
        self._set(IDS.Server_ServerStatus_StartTime, ua.Variant(now, T.DateTime))
        self._set(IDS.Server_ServerStatus_BuildInfo, ua.Variant(self._status.BuildInfo, T.ExtensionObject))
        for name in ("ProductUri", "ManufacturerName", "ProductName", "SoftwareVersion", "BuildNumber"):
            node = getattr(IDS, f"Server_ServerStatus_BuildInfo_{name}")
            self._set(node, ua.Variant(getattr(self._status.BuildInfo, name), T.String))
        self._set(IDS.Server_ServerStatus_BuildInfo_BuildDate, ua.Variant(PUBLISHED, T.DateTime))
        self.service_level(255)
        self.tick()

    def tick(self) -> None:
        """The current time, and the status as a whole."""
        self._status.CurrentTime = from_ns(self._clock.now())
        self._show()

    def shutting_down(self, seconds: int, reason: str) -> None:
        self._status.State = ua.ServerState.Shutdown
        self._status.SecondsTillShutdown = seconds
        self._status.ShutdownReason = ua.LocalizedText(reason)
        self.tick()

    def locales(self, known: list[str]) -> None:
        """LocaleIds texts are there in."""
        self._set(IDS.Server_ServerCapabilities_LocaleIdArray, ua.Variant(known, T.String, is_array=True))

    def remember_events(self, limits: Limits) -> None:
        """There is a history of events (Part 11 5.4.2)."""
        prefix = "HistoryServerCapabilities_"
        self._set(getattr(IDS, f"{prefix}AccessHistoryEventsCapability"), ua.Variant(True, T.Boolean))
        self._set(getattr(IDS, f"{prefix}MaxReturnEventValues"), ua.Variant(limits.history_page, T.UInt32))
        most = IDS.Server_ServerCapabilities_OperationLimits_MaxNodesPerHistoryReadEvents
        self._set(most, ua.Variant(limits.history_nodes, T.UInt32))

    def service_level(self, level: int) -> None:
        """0 to 255 (Part 4 6.6.2.4.2): below 200 data are degraded, 0 and 1 are no service."""
        self._set(IDS.Server_ServiceLevel, ua.Variant(level, T.Byte))

    def _show(self) -> None:
        s = self._status
        copy = ua.ServerStatusDataType(
            s.StartTime, s.CurrentTime, s.State, s.BuildInfo, s.SecondsTillShutdown, s.ShutdownReason
        )
        self._set(IDS.Server_ServerStatus, ua.Variant(copy, T.ExtensionObject))
        self._set(IDS.Server_ServerStatus_CurrentTime, ua.Variant(s.CurrentTime, T.DateTime))
        self._set(IDS.Server_LocalTime, ua.Variant(local_time(self._clock.now()), T.ExtensionObject))
        self._set(IDS.Server_ServerStatus_State, ua.Variant(s.State, T.Int32))
        self._set(IDS.Server_ServerStatus_SecondsTillShutdown, ua.Variant(s.SecondsTillShutdown, T.UInt32))
        self._set(IDS.Server_ServerStatus_ShutdownReason, ua.Variant(s.ShutdownReason, T.LocalizedText))

    def _set(self, node: int, value: Any) -> None:
        now = self._clock.now()
        self._write(ua.NodeId(node), value, 0, now, now)
