"""Discovery service set (Part 4 5.5): FindServers and GetEndpoints, the only services without a secure channel."""

from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from asyncua import ua

from opcua_server.security import Identity, host_names, is_address
from opcua_server.services.seams import NONE_URI, POLICIES
from opcua_server.services.sessions import ANONYMOUS, CERTIFICATE, USERNAME

TRANSPORT = "http://opcfoundation.org/UA-Profile/Transport/uatcp-uasc-uabinary"
SECURITY_LEVEL = {"Basic256Sha256": 100, "Aes128_Sha256_RsaOaep": 110, "Aes256_Sha256_RsaPss": 120}
"""Order in which a client should prefer the policies (7.14); all are SignAndEncrypt."""


class Discovery:
    def __init__(
        self,
        *,
        application_uri: str,
        product_uri: str,
        name: str,
        identity: Identity,
        policies: Sequence[str],
        none: bool,
        anonymous: bool,
    ) -> None:
        self._application_uri = application_uri
        self._product_uri = product_uri
        self._name = name
        self.identity = identity
        """Ours, as new channels show it."""
        self._policies = policies
        self._none = none
        self._anonymous = anonymous
        self.url = ""
        """opc.tcp://host:port, known once the server listens."""

    def find_servers(self, parameters: Any) -> list[Any]:
        """FindServers (5.5.2)."""
        uris = parameters.ServerUris or []
        if uris and self._application_uri not in uris:
            return []
        return [self._application(parameters.EndpointUrl)]

    def get_endpoints(self, parameters: Any) -> list[Any]:
        """GetEndpoints (5.5.4)."""
        profiles = parameters.ProfileUris or []
        return [] if profiles and TRANSPORT not in profiles else self.endpoints(parameters.EndpointUrl)

    def endpoints(self, asked: str | None) -> list[Any]:
        """Endpoint descriptions under the host name the client itself used, so that it can reach them."""
        secured = ua.MessageSecurityMode.SignAndEncrypt
        found = [self._endpoint(asked, secured, POLICIES[p].URI, SECURITY_LEVEL[p]) for p in self._policies]
        if self._none:
            found.append(self._endpoint(asked, ua.MessageSecurityMode.None_, NONE_URI, 0))
        return found

    def registered(self, online: bool) -> Any:
        """This server as a discovery server is told of it (7.32)."""
        return ua.RegisteredServer(
            ServerUri=self._application_uri,
            ProductUri=self._product_uri,
            ServerNames=[ua.LocalizedText(self._name)],
            ServerType=ua.ApplicationType.Server,
            DiscoveryUrls=[self.url],
            IsOnline=online,
        )

    def _endpoint(self, asked: str | None, mode: Any, policy: str, level: int) -> Any:
        return ua.EndpointDescription(
            EndpointUrl=self._reachable(asked),
            Server=self._application(asked),
            ServerCertificate=self.identity.der,
            SecurityMode=mode,
            SecurityPolicyUri=policy,
            UserIdentityTokens=self._tokens(policy),
            TransportProfileUri=TRANSPORT,
            SecurityLevel=level,
        )

    def _tokens(self, policy: str) -> list[Any]:
        """User name and X.509, both protected by the endpoint's own policy, or by the first where it has none."""
        protection = POLICIES[self._policies[0]].URI if policy == NONE_URI else policy
        kinds = [(USERNAME, ua.UserTokenType.UserName), (CERTIFICATE, ua.UserTokenType.Certificate)]
        found = [
            ua.UserTokenPolicy(PolicyId=name, TokenType=kind, SecurityPolicyUri=protection) for name, kind in kinds
        ]
        if self._anonymous:
            found.insert(0, ua.UserTokenPolicy(PolicyId=ANONYMOUS, TokenType=ua.UserTokenType.Anonymous))
        return found

    def _application(self, asked: str | None) -> Any:
        return ua.ApplicationDescription(
            ApplicationUri=self._application_uri,
            ProductUri=self._product_uri,
            ApplicationName=ua.LocalizedText(self._name),
            ApplicationType=ua.ApplicationType.Server,
            DiscoveryUrls=[self._reachable(asked)],
        )

    def _reachable(self, asked: str | None) -> str:
        """Our URL with the host and port the client used, as behind a NAT; ours for a name that is none of ours.

        A name is ours when our certificate has it (5.5.4.1); an address is believed.
        """
        try:
            there = urlsplit(asked or "")
            host = there.hostname or ""
            usable = there.scheme == "opc.tcp" and (host in host_names(self.identity.certificate) or is_address(host))
        except ValueError:
            usable = False
        return f"opc.tcp://{there.netloc}" if usable else self.url
