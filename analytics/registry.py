"""A product's model: the fingerprints of its streams as one file with one digest, which QA approves as a whole."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import rfc8785

from analytics.fingerprint import Fingerprint
from nodesets.errors import IntegrityError, InvalidArgument

FORMAT = 1


@dataclass(frozen=True, kw_only=True, eq=False)
class ProductModel:
    product: str
    fingerprints: Mapping[str, Fingerprint]
    """By stream, `EN01.Stream01`."""

    def to_bytes(self) -> bytes:
        """Canonical JSON (RFC 8785): equal models give equal bytes."""
        streams = {s: f.to_bytes().decode("ascii") for s, f in self.fingerprints.items()}
        return rfc8785.dumps({"format": FORMAT, "product": self.product, "streams": streams})

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) of `to_bytes()`: what is approved, pinned and printed."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    @classmethod
    def from_bytes(cls, data: bytes, digest: str) -> Self:
        """The model that `to_bytes` wrote.

        Raises IntegrityError when the bytes are not those of the digest, InvalidArgument for the format of another
        release.
        """
        if hashlib.sha256(data).hexdigest() != digest:
            raise IntegrityError("model", f"its SHA-256 is not {digest}")
        document = json.loads(data)
        if document.get("format") != FORMAT:
            raise InvalidArgument(f"model of format {document.get('format')}; this release reads {FORMAT}")
        fingerprints = {s: body.encode("ascii") for s, body in document["streams"].items()}
        return cls(
            product=document["product"],
            fingerprints={s: Fingerprint.from_bytes(b, hashlib.sha256(b).hexdigest()) for s, b in fingerprints.items()},
        )

    def summary(self) -> dict[str, object]:
        """What an approver reads: lots, cycles, limits and the realised false-alarm rate of each stream."""
        return {
            stream: {
                "lots": list(f.lots),
                "cycles": f.reference_count,
                "alpha": f.alpha,
                "false_alarm_rate": f.false_alarm_rate,
                "false_alarm_interval": list(f.false_alarm_interval),
                "channels": list(f.channels),
            }
            for stream, f in self.fingerprints.items()
        }
