"""What one client may ask of the server. Each number says what it protects; those a client can read are published."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    chunk: int = 65_536
    """Bytes of one chunk, both ways (Part 6 7.1.2; at least 8,192)."""
    message: int = 4 * 1024 * 1024
    """Bytes of one request: asyncua decodes in one go, and a decoder must not hold the loop for long."""
    backlog: int = 64 * 1024 * 1024
    """Bytes waiting to be sent to a client that does not read, before it is cut off."""
    pending_messages: int = 500
    """Chunks received and not yet looked at, per connection."""
    connections: int = 200
    inactive: float = 30.0
    """Seconds a connection may stay without an active session, and a session without activation."""
    channel_lifetime: tuple[float, float] = (10.0, 3600.0)
    """Seconds of a security token, least and most: a client asking for 0 or for ever gets these."""
    sessions: int = 100
    sessions_per_channel: int = 10
    session_timeout: tuple[float, float] = (5.0, 600.0)
    """Seconds of silence after which a session ends, least and most."""
    tasks: int = 16
    """Calls and history reads of one session under way at once."""
    continuation_points: int = 32
    """Of one session, for Browse and for HistoryRead each."""

    nesting: int = 100
    """Levels of Variants and structures in each other (Part 6 5.2.2.12); the decoder calls itself for each."""
    string: int = 65_536
    """Bytes of one String or ByteString."""
    array: int = 65_536
    """Elements of one array."""
    elements: int = 65_536
    """Objects the decoder makes of one request, at 3 us each: two megabytes of null Variants would be two million."""

    operations: int = 10_000
    """Nodes or items in one request, published as every OperationLimit but the next three."""
    method_calls: int = 100
    history_nodes: int = 100
    history_page: int = 10_000
    """Values of one node in one HistoryRead response."""
    references: int = 1_000
    """References of one node in one Browse response."""
    path_elements: int = 64

    subscriptions: int = 500
    subscriptions_per_session: int = 50
    items: int = 50_000
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
    notifications: int = 10_000
    """In one publish response."""
    retransmission: int = 100
    """Unacknowledged messages a subscription keeps for Republish."""
    publish_requests: int = 100
    """Publish requests a session may leave waiting."""
