"""What one client may ask of the server. Each number says what it protects; those a client can read are published."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    chunk: int = 65_536
    """Bytes of one chunk, both ways (Part 6 7.1.2; at least 8,192)."""
    chunks: int = 64
    """Of one request: many small ones cost more than few large ones."""
    message: int = 2 * 1024 * 1024
    """Bytes of one request: it is decoded in one go, and must not hold the loop for long."""
    message_before_session: int = 65_536
    """Bytes of one request of a client without a session, which may be anybody."""
    buffered: int = 64 * 1024 * 1024
    """Bytes received and not yet answered, of all connections: whoever holds most is closed beyond it."""
    unread: int = 1024 * 1024
    """Bytes waiting to be sent, from which on a client gets no further answers before it has read some."""
    backlog: int = 16 * 1024 * 1024
    """Bytes waiting to be sent to a client that does not read, before it is cut off."""
    connections: int = 130
    """More than sessions: who comes when all of these are taken learns it from CreateSession."""
    connections_per_address: int = 10
    """Of clients of one address that show no trusted certificate and have no session."""
    connections_reserved: int = 20
    """Places among `connections` that only clients with a trusted certificate get."""
    hello: float = 5.0
    """Seconds from the connection to its HELLO: a port scanner and a byte a second get no further."""
    open: float = 10.0
    """Seconds from the connection to its secure channel."""
    inactive: float = 15.0
    """Seconds a connection may stay without an active session, and a session without activation."""
    incomplete: float = 10.0
    """Seconds from the first byte of a message to its last."""
    refusal: float = 0.05
    """Seconds until a failed check of a signature or certificate is answered, whichever check it was."""
    channel_lifetime: tuple[float, float] = (10.0, 3600.0)
    """Seconds of a security token, least and most: a client asking for 0 or for ever gets these."""
    sessions: int = 100
    sessions_per_channel: int = 10
    session_timeout: tuple[float, float] = (5.0, 600.0)
    """Seconds of silence after which a session ends, least and most."""
    tasks: int = 16
    """Calls and history reads of one session under way at once."""
    continuation_points: int = 16
    """Of one session, for Browse."""
    history_points: int = 100
    """Of one session, for HistoryRead: every node of a request can be read on."""
    history_point_seconds: float = 600.0
    """After which a continuation point nobody came back for is no more."""

    nesting: int = 100
    """Levels of Variants and structures in each other (Part 6 5.2.2.12); the decoder calls itself for each."""
    string: int = 65_536
    """Bytes of one String or ByteString."""
    array: int = 65_536
    """Elements of one array."""
    elements: int = 65_536
    """Objects the decoder makes of one request, at 3 us each: two megabytes of null Variants would be two million."""

    operations: int = 10_000
    """Monitored items, registered nodes or subscriptions in one request."""
    registered: int = 10_000
    """Nodes of one session that have a short id by RegisterNodes."""
    nodes: int = 1_000
    """In one Read or Write."""
    browse_paths: int = 250
    """Nodes in one Browse, points in one BrowseNext, paths in one TranslateBrowsePaths: each can mean many answers."""
    method_calls: int = 50
    history_nodes: int = 100
    history_page: int = 10_000
    """Values of one node in one HistoryRead response; instants asked for in one."""
    history_updates: int = 100
    """Nodes in one HistoryUpdate."""
    history_changes: int = 1_000
    """Values of one node in one HistoryUpdate: all are one transaction, each with its audit entry."""
    references: int = 1_000
    """References of one node in one Browse response."""
    path_elements: int = 64

    subscriptions: int = 1_000
    subscriptions_per_session: int = 100
    """Ignition uses one session a connection, whatever the number of its tag groups."""
    items: int = 100_000
    """Monitored items of one session."""
    publishing_interval: tuple[float, float] = (50.0, 3_600_000.0)
    """Milliseconds, least and most."""
    sampling_interval: float = 10.0
    """Milliseconds, least; 0 asks for every change."""
    keep_alive: int = 5_000
    lifetime: int = 15_000
    """Publishing cycles, most."""
    queue: int = 1_000
    """Values or events of one monitored item."""
    waiting: int = 1_000_000
    """Values and events that may wait in all queues of one session: 44 MB of values, should its client stop to read."""
    notifications: int = 10_000
    """In one publish response."""
    retransmission: int = 100
    """Unacknowledged messages a subscription keeps for Republish."""
    publish_requests: int = 100
    """Publish requests a session may leave waiting."""
