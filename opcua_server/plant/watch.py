"""What a plant has to know of its own security at once: guessed passwords, certificates near their end."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import timedelta

from compliance.lockout import Locked
from compliance.users import Attempt
from nodesets.model import Finding
from nodesets.ports import Clock
from opcua_server import security
from opcua_server.plant import events
from opcua_server.plant.alarms import SITE_SOURCES
from opcua_server.services.server import UaServer

log = logging.getLogger(__name__)

LOCKOUT_SEVERITY = 900
"""Critical: R29 asks for an urgent report of attempted misuse, severity 800 or more."""
ENDED_SEVERITY, ENDING_SEVERITY = 800, 400
WARNING = timedelta(days=30)
"""How long before the end of a certificate: a change request in a plant takes weeks."""
REMINDER = 24 * 3600.0
"""Seconds between two warnings of the same."""
WHAT = {"user_account": "account", "application": "application", "address": "address"}


class Watch:
    """`locked` is told of locks; `run` looks at certificates and takes over the server's own when it is renewed."""

    def __init__(
        self,
        server: UaServer,
        trust: security.TrustStore,
        own: security.OwnCertificate,
        renewed: Callable[[security.Identity], Awaitable[None]],
        find: Callable[[Finding], None],
        clock: Clock,
    ) -> None:
        """`renewed` records that the server has another certificate; `find` is told whether its own ends soon."""
        self._server, self._trust, self._own, self._renewed, self._clock = server, trust, own, renewed, clock
        self._find = find

    def locked(self, lock: Locked, attempt: Attempt) -> None:
        """An account, an application or an address was locked after failed logins."""
        kind, _, name = lock.record.partition("/")
        words = f"{WHAT[kind]} {name[:80]!a} locked after {lock.failures} failed logins, last from {attempt.address!a}"
        self._tell(words, LOCKOUT_SEVERITY)

    async def run(self, seconds: float) -> None:
        """Until cancelled, every `seconds`."""
        reminded, known = float("-inf"), self._server.identity
        while True:
            if found := self._own.renewed():
                self._server.renew(found)
            if (identity := self._server.identity) is not known:
                known = identity
                await self._renewed(identity)
                log.info("new certificate of this server, valid until %s", identity.certificate.not_valid_after_utc)
                reminded = float("-inf")
            if self._clock.monotonic() - reminded >= REMINDER:
                reminded = self._clock.monotonic()
                self.warn()
                self._find(self._own_certificate())
            await asyncio.sleep(seconds)

    def warn(self) -> None:
        """Tell of every certificate that ends soon."""
        ended = {c.thumbprint for c in self._trust.ending(timedelta(0))}
        for c in self._trust.ending(WARNING):
            verb = "has expired" if c.thumbprint in ended else "expires"
            severity = ENDED_SEVERITY if c.thumbprint in ended else ENDING_SEVERITY
            self._tell(f"certificate {c.name[:80]!a} ({c.path.parts[-3]}) {verb} on {c.expires.date()}", severity)

    def _own_certificate(self) -> Finding:
        """Whether the certificate clients see ends within `WARNING`."""
        identity, now = self._server.identity, self._clock.now()
        ends = identity.certificate.not_valid_after_utc
        soon = ends.timestamp() * 1e9 - now < WARNING.total_seconds() * 1e9
        return Finding(
            kind="CertificateExpiring",
            source=SITE_SOURCES["security"],
            time=now,
            level="Active" if soon else "",
            text=f"The server's certificate is valid until {ends.date()}",
            details={"ExpirationDate": str(int(ends.timestamp()) * 10**9), "Certificate": identity.der.hex()},
        )

    def _tell(self, words: str, severity: int) -> None:
        log.warning("%s", words)
        self._server.publish_event(events.security_report(words, severity, self._clock.now()))
