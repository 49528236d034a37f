"""Registration with a discovery server (Part 4 5.5.5, 5.5.6), again and again, with this server as the client.

By RegisterServer2, or by RegisterServer where that is all there is; on a signed and encrypted channel, and only to a
server whose certificate is trusted: nobody else is told where this one is.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any

from asyncua import Client, ua

from nodesets.errors import CertificateRefused
from opcua_server.security import Identity, TrustStore, leaf_der
from opcua_server.services.discovery import Discovery
from opcua_server.services.seams import make_policy

log = logging.getLogger(__name__)

PATIENCE = 10.0
"""Seconds a discovery server may take for each answer, and in all when this server stops."""
SECURED = ua.MessageSecurityMode.SignAndEncrypt
REGISTERED = "registered"
CAPABILITIES = ["DA", "HD", "AC"]
"""What multicast listeners may look for (Part 12 Annex D): live data, history of data, alarms and conditions."""


class Registration:
    def __init__(
        self,
        url: str,
        every: float,
        discovery: Discovery,
        identity: Callable[[], Identity],
        trust: TrustStore,
        policies: Sequence[str],
    ) -> None:
        """`url`: of the discovery server; `every`: seconds; `policies`: URIs this server speaks."""
        self._url = url
        self._every = every
        self._discovery = discovery
        self._identity = identity
        self._trust = trust
        self._policies = policies
        self._told = ""
        """The outcome last logged."""

    async def run(self) -> None:
        """Register until cancelled."""
        while True:
            await self._try(online=True)
            await asyncio.sleep(self._every)

    async def withdraw(self) -> None:
        """This server is going offline; of interest only to who was told that it is there."""
        if self._told == REGISTERED:
            await self._try(online=False)

    async def _try(self, *, online: bool) -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                await self._register(online)
            outcome = REGISTERED if online else "withdrawn"
        except (OSError, TimeoutError, ua.UaError, CertificateRefused) as error:
            outcome = f"not registered: {error or type(error).__name__}"
        if outcome != self._told:
            log.log(logging.WARNING if outcome.startswith("not") else logging.INFO, "%s: %s", self._url, outcome)
        self._told = outcome

    async def _register(self, online: bool) -> None:
        server = self._discovery.registered(online)
        client = await self._client(server.ServerUri)
        await client.connect_sessionless()
        try:
            announced = ua.MdnsDiscoveryConfiguration(server.ServerNames[0].Text, CAPABILITIES)
            parameters = ua.RegisterServer2Parameters(server, [announced])
            try:
                await client.uaclient.register_server2(parameters)
            except ua.UaStatusCodeError as fault:
                if fault.code != ua.StatusCodes.BadServiceUnsupported:
                    raise
                await client.uaclient.register_server(server)
        finally:
            await client.disconnect_sessionless()

    async def _client(self, application_uri: str) -> Any:
        """A client with a channel to come to the safest endpoint. Raises CertificateRefused, UaError without one."""
        client = Client(self._url, timeout=PATIENCE)
        client.application_uri = application_uri
        found = await client.connect_and_get_server_endpoints()
        usable = [e for e in found if e.SecurityMode == SECURED and e.SecurityPolicyUri in self._policies]
        if not usable:
            raise ua.UaError("no endpoint with a security policy of ours")
        best = max(usable, key=lambda e: e.SecurityLevel)
        self._trust.check(best.ServerCertificate, best.Server.ApplicationUri)
        own, peer = self._identity(), leaf_der(best.ServerCertificate)
        client.security_policy = make_policy(best.SecurityPolicyUri, own.certificate, own.key, peer)
        client.uaclient.set_security(client.security_policy)
        return client
