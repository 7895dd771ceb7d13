"""Where two sessions part: their events aligned by round, phase and agent, up to the first that is not the same."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import groupby, zip_longest
from typing import Any

from learning_signal.ledger.read.query import Query
from learning_signal.ledger.read.reader import Reader
from learning_signal.ledger.read.records import EventRow

TIMING = ("segment", "speculation", "session", "shadow", "branch")
"""Kinds of events that come when a computation ends, or that say where and when; they are not aligned."""
Group = tuple[int | None, str | None]
"""Round and phase."""


@dataclass(frozen=True)
class Parting:
    """The first event in which two sessions differ; both sides None where they never do."""

    same: int
    """Events that are the same before it."""
    round: int | None
    phase: str | None
    first: EventRow | None
    """None where the session has nothing more in this phase."""
    second: EventRow | None
    first_said: str | None
    """What stands behind the event: the words of a message, the arguments and the result of a call; None elsewhere."""
    second_said: str | None


def parting(reader: Reader, first: str, second: str) -> Parting:
    """Compare two sessions of a log, event by event. What is said counts, and neither numbers of events nor times."""
    told = [_moments(reader, reader.session_id(each)) for each in (first, second)]
    same = 0
    groups = [[(key, list(each)) for key, each in groupby(side, key=lambda moment: moment[0])] for side in told]
    for one, other in zip_longest(*groups):
        pairs = zip_longest(one[1] if one else [], other[1] if other else [])
        for mine, theirs in pairs:
            if mine is not None and theirs is not None and (mine[0], mine[2]) == (theirs[0], theirs[2]):
                same += 1
                continue
            (round_, phase), _, _ = mine or theirs
            events = (None if each is None else each[1] for each in (mine, theirs))
            said = (None if each is None else each[2][-1] for each in (mine, theirs))
            return Parting(same, round_, phase, *events, *said)
    return Parting(same, None, None, None, None, None, None)


Moment = tuple[Group, EventRow, tuple[Any, ...]]
"""Where it belongs, the event, and what must be the same of it."""


def _moments(reader: Reader, session: str) -> list[Moment]:
    bodies = _bodies(reader, session)
    found: list[Moment] = []
    for event in reader.events(session):
        if event.kind in TIMING:
            continue
        said = bodies.get(event.seq)
        said = None if said is None else said.replace(session, "SESSION")
        key = (event.agent, event.kind, event.status, event.title.replace(session, "SESSION"), said)
        found.append(((event.round, event.phase), event, key))
    return found


def _bodies(reader: Query, session: str) -> dict[int, str]:
    """By event, the words of its message, or the arguments and the result of its call."""
    found: dict[int, str] = {}
    for row in reader.rows(
        "SELECT m.event_seq, b.body FROM messages m JOIN bodies b ON b.hash = m.body WHERE m.session_id = ?", (session,)
    ):
        found[row["event_seq"]] = found.get(row["event_seq"], "") + row["body"]
    for row in reader.rows(
        "SELECT t.event_seq, t.name, a.body arguments, r.body result FROM tool_calls t "
        "JOIN bodies a ON a.hash = t.arguments LEFT JOIN bodies r ON r.hash = t.result WHERE t.session_id = ?",
        (session,),
    ):
        found[row["event_seq"]] = json.dumps([row["name"], row["arguments"], row["result"]], ensure_ascii=False)
    return found
