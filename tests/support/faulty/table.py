"""Every fault, in the groups in which a table shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tests.support.faulty import bodies, connections, replies, statuses
from tests.support.faulty.fault import Fault

GROUPS: Mapping[str, Sequence[Fault]] = {
    "status": (*statuses.lasting(), *statuses.passing(), *statuses.waits(), *statuses.bodies()),
    "body": (*bodies.unreadable(), *bodies.without_parts(), *bodies.counts(), *bodies.odd()),
    "connection": (*connections.broken(), *connections.slow(), *connections.redirected()),
    "reply": (*replies.calls(), *replies.texts(), *replies.insistent()),
}
FAULTS: Sequence[Fault] = tuple(fault for group in GROUPS.values() for fault in group)
"""Names differ."""
