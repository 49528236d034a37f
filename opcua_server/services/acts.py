"""What each service tells auditors (Part 4 6.5.5 to 6.5.11, Part 5 6.4, Part 9 5.10): requests and answers as acts."""

import dataclasses
import hashlib
import ipaddress
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from asyncua import ua
from cryptography import x509

from nodesets.errors import CertificateRefused, RequestError
from nodesets.model import Caller
from opcua_server.services.audit import Act
from opcua_server.services.roles import role_node
from opcua_server.services.status import Fault

IDS, T = ua.ObjectIds, ua.VariantType
CODES = ua.StatusCodes

CERTIFICATES: Mapping[int, int] = {
    CertificateRefused.INVALID: IDS.AuditCertificateInvalidEventType,
    CertificateRefused.TIME_INVALID: IDS.AuditCertificateExpiredEventType,
    CertificateRefused.URI_INVALID: IDS.AuditCertificateDataMismatchEventType,
    CertificateRefused.USE_NOT_ALLOWED: IDS.AuditCertificateMismatchEventType,
    CertificateRefused.UNTRUSTED: IDS.AuditCertificateUntrustedEventType,
    CertificateRefused.REVOCATION_UNKNOWN: IDS.AuditCertificateRevokedEventType,
    CertificateRefused.REVOKED: IDS.AuditCertificateRevokedEventType,
}
"""Step of the validation that failed (Part 4 Table 100) -> event type."""


def string(value: str | None) -> Any:
    return ua.Variant(value, T.String)


def stranger(channel: Any, application_uri: str = "") -> Caller:
    """Who has no session yet."""
    return Caller(user="", channel=channel.id, application_uri=application_uri, address=channel.address)


def thumbprint(certificate: bytes) -> Any:
    """ClientCertificateThumbprint: SHA-1 in hex, as clients show it."""
    return string(hashlib.sha1(certificate).hexdigest() if certificate else None)  # noqa: S324 - a name, no protection


# -- SecureChannel


@dataclass(slots=True)
class Opening:
    """What is known of an OpenSecureChannel under way."""

    certificate: bytes = b""
    policy: str = ""
    parameters: Any = None
    entry: str = ""
    """AuditEntryId."""


def opened(channel: Any, opening: Opening, code: int = 0, reason: str = "", certificate_event: bytes = b"") -> Act:
    """OpenSecureChannel (Part 5 6.4.6). `certificate_event`: EventId of what was wrong with the certificate."""
    asked = opening.parameters
    return Act(
        kind="channel.open",
        caller=stranger(channel),
        code=code,
        reason=reason,
        entry=opening.entry,
        user="System/OpenSecureChannel",
        fields={
            "StatusCodeId": ua.Variant(ua.StatusCode(code), T.StatusCode),
            "SecureChannelId": string(str(channel.id)),
            "ClientCertificate": ua.Variant(opening.certificate or None, T.ByteString),
            "ClientCertificateThumbprint": thumbprint(opening.certificate),
            "RequestType": ua.Variant(int(asked.RequestType) if asked else 0, T.Int32),
            "SecurityPolicyUri": string(opening.policy),
            "SecurityMode": ua.Variant(int(asked.SecurityMode) if asked else 0, T.Int32),
            "RequestedLifetime": ua.Variant(float(asked.RequestedLifetime) if asked else 0.0, T.Double),
            "CertificateErrorEventId": ua.Variant(certificate_event or None, T.ByteString),
        },
    )


def channel_closed(channel: Any, kind: str = "channel.close", code: int = 0, reason: str = "") -> Act:
    """CloseSecureChannel, and its end by the server (Part 5 6.4.5)."""
    return Act(
        kind=kind,
        caller=stranger(channel),
        code=code,
        reason=reason,
        user="System/CloseSecureChannel",
        fields={
            "StatusCodeId": ua.Variant(ua.StatusCode(code), T.StatusCode),
            "SecureChannelId": string(str(channel.id)),
        },
    )


def certificate_refused(caller: Caller, certificate: bytes, error: CertificateRefused, uri: str = "") -> Act:
    """A certificate that did not pass (Part 5 6.4.12 to 6.4.18)."""
    fields = {
        "StatusCodeId": ua.Variant(ua.StatusCode(error.failure), T.StatusCode),
        "Certificate": ua.Variant(certificate or None, T.ByteString),
    }
    if error.failure == CertificateRefused.URI_INVALID:
        fields |= {"InvalidHostname": string(None), "InvalidUri": string(uri)}
    return Act(
        kind="certificate",
        caller=caller,
        code=error.failure,
        reason=str(error),
        user="System/Certificate",
        event_type=ua.NodeId(CERTIFICATES[error.failure]),
        fields=fields,
    )


# -- Session


def caller_of(request: Any) -> Caller:
    """Who sent a request, known or not."""
    session = request.given_session
    return session.caller if session is not None and session.caller is not None else stranger(request.channel)


def _session_act(kind: str, request: Any, fault: Fault | None, fields: Mapping[str, Any], **more: Any) -> Act:
    session = request.given_session
    code, reason = verdict(fault)
    return Act(
        **{
            "kind": kind,
            "caller": caller_of(request),
            "code": code,
            "reason": reason,
            "entry": request.header.entry,
            "fields": {
                "StatusCodeId": ua.Variant(ua.StatusCode(code), T.StatusCode),
                "SessionId": ua.Variant(session.id if session is not None else ua.NodeId(), T.NodeId),
                **fields,
            },
            **more,
        }
    )


def verdict(fault: Fault | None) -> tuple[int, str]:
    """StatusCode and the reason only we are told."""
    if fault is None:
        return 0, ""
    cause = fault.__cause__
    return fault.status, fault.reason or (str(cause) if cause is not None else "")


def session_created(request: Any, response: Any, fault: Fault | None) -> Iterator[Act]:
    """CreateSession (Part 5 6.4.8): the session, a host name that is not ours, a certificate that did not pass."""
    asked, result = request.parameters, response.Parameters if response is not None else None
    uri = asked.ClientDescription.ApplicationUri or ""
    caller = stranger(request.channel, uri)
    if fault is not None and isinstance(fault.__cause__, CertificateRefused):
        yield certificate_refused(caller, request.channel.certificate, fault.__cause__, uri)
    certificate = asked.ClientCertificate or b""
    fields = {
        "SessionId": ua.Variant(result.SessionId if result else ua.NodeId(), T.NodeId),
        "SecureChannelId": string(str(request.channel.id)),
        "ClientCertificate": ua.Variant(certificate or None, T.ByteString),
        "ClientCertificateThumbprint": thumbprint(certificate),
        "RevisedSessionTimeout": ua.Variant(result.RevisedSessionTimeout if result else 0.0, T.Double),
    }
    more = {"caller": caller, "user": "System/CreateSession"}
    yield _session_act("session.create", request, fault, fields, **more)
    if not names_host(asked.EndpointUrl or "", request.channel.identity.certificate):
        url = {"EndpointUrl": string(asked.EndpointUrl)}
        yield _session_act("session.url", request, None, fields | url, **more)


def names_host(url: str, certificate: x509.Certificate) -> bool:
    """Whether the host of an endpoint URL is one of the server's certificate (Part 4 5.7.2.2)."""
    try:
        host = (urlsplit(url).hostname or "").lower()
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, x509.ExtensionNotFound):
        return False
    try:
        return ipaddress.ip_address(host) in names.get_values_for_type(x509.IPAddress)
    except ValueError:
        return host in {name.lower() for name in names.get_values_for_type(x509.DNSName)}


def session_activated(request: Any, _response: Any, fault: Fault | None) -> Iterator[Act]:
    """ActivateSession (Part 5 6.4.10), without secrets. A checked password or certificate its accounts have logged."""
    token = request.parameters.UserIdentityToken
    session = request.given_session
    caller = session.caller if session is not None else None
    if fault is not None or caller is None:
        uri = session.application_uri if session is not None else ""
        caller = dataclasses.replace(stranger(request.channel, uri), user=(getattr(token, "UserName", None) or "")[:64])
    checked = caller.proof != "" if fault is None else isinstance(fault.__cause__, RequestError)
    yield _session_act(
        "session.activate",
        request,
        fault,
        {
            "ClientSoftwareCertificates": ua.Variant([], T.ExtensionObject, is_array=True),
            "UserIdentityToken": ua.Variant(_without_secret(token), T.ExtensionObject),
            "SecureChannelId": string(str(request.channel.id)),
            "CurrentRoleIds": ua.Variant([role_node(r) for r in sorted(caller.roles)], T.NodeId, is_array=True),
        },
        caller=caller,
        logged=checked,
    )


def _without_secret(token: Any) -> Any:
    secret = {ua.UserNameIdentityToken: "Password", ua.IssuedIdentityToken: "TokenData"}.get(type(token))
    return dataclasses.replace(token, **{secret: None}) if secret else token


def cancelled(request: Any, _response: Any, fault: Fault | None) -> Iterator[Act]:
    """Cancel (Part 5 6.4.11)."""
    handle = ua.Variant(request.parameters.RequestHandle, T.UInt32)
    yield _session_act("session.cancel", request, fault, {"RequestHandle": handle})


def transferred(request: Any, response: Any, fault: Fault | None) -> Iterator[Act]:
    """TransferSubscriptions (Part 4 6.5.11): as good as the worst of its results."""
    if fault is None:
        codes = [r.StatusCode.value for r in response.Parameters.Results or []]
        fault = next((Fault(code) for code in codes if code), None)
    yield _session_act("session.transfer", request, fault, {})


def session_ended(session: Any, kind: str, entry: str) -> Act:
    """CloseSession, a time-out, or the end by the server (Part 4 6.5.6)."""
    caller = session.caller or stranger(session.channel, session.application_uri)
    return Act(
        kind=kind,
        caller=caller,
        entry=entry,
        fields={
            "StatusCodeId": ua.Variant(ua.StatusCode(0), T.StatusCode),
            "SessionId": ua.Variant(session.id, T.NodeId),
        },
    )


def misused(request: Any, service: str, fault: Fault) -> Act:
    """A request over a channel, or with a token, that is not its session's (hostile inputs H23)."""
    return _session_act("session.misused", request, fault, {}, source_name=f"Session/{service}")


# -- Attribute, NodeManagement


def written(request: Any, item: Any, old: Any, code: int) -> Act:
    """One value of a Write (Part 5 6.4.25). `old`: DataValue before it, or None."""
    before = old.Value if old is not None and old.Value is not None else ua.Variant()
    after = item.Value.Value if item.Value.Value is not None else ua.Variant()
    node = item.NodeId.to_string()
    return Act(
        kind="write",
        caller=request.caller,
        code=code,
        entry=request.header.entry,
        source=item.NodeId,
        record=node[:254],
        fields={
            "AttributeId": ua.Variant(int(item.AttributeId), T.UInt32),
            "IndexRange": string(item.IndexRange or None),
            "OldValue": before,
            "NewValue": after,
        },
        old=plain(before.Value),
        new=plain(after.Value),
    )


def plain(value: Any) -> object:
    """A value as the audit log can keep it: text where JSON has no such type."""
    if value is None or isinstance(value, bool | int | float | str | bytes):
        return value
    if isinstance(value, list):
        return [plain(element) for element in value]
    return str(value)


Fields = dict[str, Any]
"""Variants by path."""


def _values(details: Any, old: Sequence[Any]) -> Fields:
    """Of UpdateDataDetails: DataValues."""
    return _performed(details) | {
        "NewValues": ua.Variant(details.UpdateValues or [], T.DataValue, is_array=True),
        "OldValues": ua.Variant(list(old), T.DataValue, is_array=True),
    }


def _notes(details: Any, old: Sequence[Any]) -> Fields:
    """Of UpdateStructureDataDetails: Annotations."""
    given = [v.Value.Value for v in details.UpdateValues or [] if v.Value is not None]
    return _performed(details) | {
        "NewValues": ua.Variant([n for n in given if isinstance(n, ua.Annotation)], T.ExtensionObject, is_array=True),
        "OldValues": ua.Variant(list(old), T.ExtensionObject, is_array=True),
    }


def _performed(details: Any) -> Fields:
    return {"PerformInsertReplace": ua.Variant(int(details.PerformInsertReplace), T.Int32)}


def _events(details: Any, _old: Sequence[Any]) -> Fields:
    """Of UpdateEventDetails, which this server refuses."""
    return _performed(details) | {
        "Filter": ua.Variant(details.Filter, T.ExtensionObject),
        "NewValues": ua.Variant(details.EventData or [], T.ExtensionObject, is_array=True),
        "OldValues": ua.Variant([], T.ExtensionObject, is_array=True),
    }


def _event_ids(details: Any, _old: Sequence[Any]) -> Fields:
    """Of DeleteEventDetails, which this server refuses."""
    return {
        "EventIds": ua.Variant(details.EventIds or [], T.ByteString, is_array=True),
        "OldValues": ua.Variant([], T.ExtensionObject, is_array=True),
    }


def _range(details: Any, old: Sequence[Any]) -> Fields:
    return {
        "IsDeleteModified": ua.Variant(bool(details.IsDeleteModified), T.Boolean),
        "StartTime": ua.Variant(details.StartTime, T.DateTime),
        "EndTime": ua.Variant(details.EndTime, T.DateTime),
        "OldValues": ua.Variant(list(old), T.DataValue, is_array=True),
    }


def _instants(details: Any, old: Sequence[Any]) -> Fields:
    return {
        "ReqTimes": ua.Variant(details.ReqTimes or [], T.DateTime, is_array=True),
        "OldValues": ua.Variant(list(old), T.DataValue, is_array=True),
    }


HISTORY_UPDATES: Mapping[type, tuple[int, int, Callable[[Any, Sequence[Any]], Fields]]] = {
    ua.UpdateDataDetails: (IDS.AuditHistoryValueUpdateEventType, IDS.UpdateDataDetails, _values),
    ua.UpdateStructureDataDetails: (
        IDS.AuditHistoryAnnotationUpdateEventType,
        IDS.UpdateStructureDataDetails,
        _notes,
    ),
    ua.UpdateEventDetails: (IDS.AuditHistoryEventUpdateEventType, IDS.UpdateEventDetails, _events),
    ua.DeleteRawModifiedDetails: (
        IDS.AuditHistoryRawModifyDeleteEventType,
        IDS.DeleteRawModifiedDetails,
        _range,
    ),
    ua.DeleteAtTimeDetails: (IDS.AuditHistoryAtTimeDeleteEventType, IDS.DeleteAtTimeDetails, _instants),
    ua.DeleteEventDetails: (IDS.AuditHistoryEventDeleteEventType, IDS.DeleteEventDetails, _event_ids),
}
"""Kind of details -> event type, data type, what its event tells of (details, what stood there before)."""


def history_updated(request: Any, details: Any, result: Any, old: Sequence[Any]) -> Iterator[Act]:
    """One node of a HistoryUpdate (Part 5 6.4.26, Part 11 5.8). What was changed the log has already."""
    row = HISTORY_UPDATES.get(type(details))
    if row is None:
        return
    event_type, data_type, told = row
    codes = [result.StatusCode.value, *(c.value for c in result.OperationResults or [])]
    code = next((c for c in codes if c & 0x80000000), 0)
    fields = {
        "ParameterDataTypeId": ua.Variant(ua.NodeId(data_type), T.NodeId),
        "UpdatedNode": ua.Variant(details.NodeId, T.NodeId),
    }
    yield Act(
        kind="history",
        caller=request.caller,
        code=code,
        entry=request.header.entry,
        event_type=ua.NodeId(event_type),
        source=details.NodeId,
        record=details.NodeId.to_string()[:254],
        logged=not code,
        fields=fields | told(details, old),
    )


def nodes_managed(service: str, operations: str) -> Any:
    """NodeManagement services (Part 5 6.4.19 to 6.4.23), all of which this server refuses."""

    def acts(request: Any, _response: Any, fault: Fault | None) -> Iterator[Act]:
        code, reason = verdict(fault)
        asked = ua.Variant(getattr(request.parameters, operations) or [], T.ExtensionObject, is_array=True)
        yield Act(
            kind=f"nodes.{service}",
            caller=caller_of(request),
            code=code,
            reason=reason,
            entry=request.header.entry,
            fields={operations: asked},
        )

    return acts


# -- Method


def condition_event(method: str) -> int:
    """Event type of a method of conditions by its name (Part 9 5.10); 0 for another name."""
    return CONDITION_METHODS.get(method.removesuffix("2"), 0)


CONDITION_METHODS: Mapping[str, int] = {
    "Enable": IDS.AuditConditionEnableEventType,
    "Disable": IDS.AuditConditionEnableEventType,
    "AddComment": IDS.AuditConditionCommentEventType,
    "Respond": IDS.AuditConditionRespondEventType,
    "Acknowledge": IDS.AuditConditionAcknowledgeEventType,
    "Confirm": IDS.AuditConditionConfirmEventType,
    "TimedShelve": IDS.AuditConditionShelvingEventType,
    "OneShotShelve": IDS.AuditConditionShelvingEventType,
    "Unshelve": IDS.AuditConditionShelvingEventType,
    "Suppress": IDS.AuditConditionSuppressionEventType,
    "Unsuppress": IDS.AuditConditionSuppressionEventType,
    "Silence": IDS.AuditConditionSilenceEventType,
    "Reset": IDS.AuditConditionResetEventType,
    "PlaceInService": IDS.AuditConditionOutOfServiceEventType,
    "RemoveFromService": IDS.AuditConditionOutOfServiceEventType,
}
"""Method of a condition, its second form without the 2 -> event type."""

CONDITION_FIELDS: Mapping[str, tuple[str, Any]] = {
    "EventId": ("ConditionEventId", T.ByteString),
    "Comment": ("Comment", T.LocalizedText),
    "ShelvingTime": ("ShelvingTime", T.Double),
    "SelectedResponse": ("SelectedResponse", T.Int32),
}
"""Argument of such a method -> field of its event."""


def called(
    caller: Caller,
    entry: str,
    began: int,
    request: Any,
    result: Any,
    *,
    reason: str,
    inputs: Sequence[Any],
    logged: bool,
    **more: Any,
) -> Act:
    """One call of a method (Part 5 6.4.27). `inputs`: its arguments, secrets masked."""
    outputs = list(result.OutputArguments or [])
    code = result.StatusCode.value
    node = request.ObjectId.to_string()
    fields = {
        "MethodId": ua.Variant(request.MethodId, T.NodeId),
        "StatusCodeId": ua.Variant(ua.StatusCode(code), T.StatusCode),
        "InputArguments": ua.Variant(list(inputs), T.Variant, is_array=True),
        "OutputArguments": ua.Variant(outputs, T.Variant, is_array=True),
    }
    return Act(
        **{
            "kind": "call",
            "caller": caller,
            "code": code,
            "reason": reason,
            "entry": entry,
            "began": began,
            "source": request.ObjectId,
            "record": node[:254],
            "new": {"method": request.MethodId.to_string()[:254], "inputs": [plain(v.Value) for v in inputs]},
            "logged": logged,
            **more,
            "fields": fields | more.get("fields", {}),
        }
    )
