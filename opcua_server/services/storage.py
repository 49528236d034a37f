"""Puts our types into asyncua's storage."""

from pathlib import Path
from typing import Any

from asyncua import Server, ua
from asyncua.common.xmlimporter import XmlImporter

from nodesets.types import NODESET
from opcua_server.services.nodes import SITE_NS, SITE_URI, TYPES_NS, TYPES_URI
from opcua_server.services.standard_nodes import reference

ONE_WAY = frozenset({ua.NodeId(ua.ObjectIds.HasInterface), ua.NodeId(ua.ObjectIds.HasGuard)})
"""Types of reference the library leaves in one direction."""


async def load_types(server: Server, nodeset: Path = NODESET) -> None:
    """Import our types as ns=2 and reserve ns=3 for the site. Raises ValueError when the indexes are taken.

    Both are part of clients' stored addresses, so this comes before any companion model (information model 1.2).
    """
    for uri, index in ((TYPES_URI, TYPES_NS), (SITE_URI, SITE_NS)):
        if await server.register_namespace(uri) != index:
            raise ValueError(f"namespace {uri} must have index {index}: register no other namespace before it")
    await Importer(server).import_xml(nodeset)


class Importer(XmlImporter):  # type: ignore[misc]
    """asyncua's import; references, and those that lack their other direction, are looked up, not searched for."""

    async def _add_references(self, refs: list[Any]) -> None:
        storage = self.session.iserver.aspace
        there: dict[Any, set[Any]] = {}
        for ref in refs:
            if ref.SourceNodeId not in storage or ref.TargetNodeId not in storage:
                self.refs.append(ref)
                continue
            references = storage[ref.SourceNodeId].references
            known = there.setdefault(ref.SourceNodeId, set())
            if not known:
                known.update((r.ReferenceTypeId, r.NodeId) for r in references)
            if (ref.ReferenceTypeId, ref.TargetNodeId) not in known:
                known.add((ref.ReferenceTypeId, ref.TargetNodeId))
                references.append(reference(ref.ReferenceTypeId, ref.IsForward, storage[ref.TargetNodeId]))

    async def _add_missing_reverse_references(self, new_nodes: list[Any]) -> set[Any]:
        storage = self.session.iserver.aspace
        found = {(n, r.NodeId, r.ReferenceTypeId): r.IsForward for n in new_nodes for r in storage[n].references}
        missing = [
            ua.AddReferencesItem(SourceNodeId=target, TargetNodeId=node, ReferenceTypeId=kind, IsForward=not forward)
            for (node, target, kind), forward in found.items()
            if (target, node, kind) not in found and kind not in ONE_WAY
        ]
        await self._add_references(missing)
        return {target for _, target, _ in found if target not in storage}
