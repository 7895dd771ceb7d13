"""Scanners: rules that look through sessions for what a reader should see. No model is asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from learning_signal.ledger.errors import LedgerError
from learning_signal.ledger.read.claims import claims
from learning_signal.ledger.read.decision.explain import troubles_of
from learning_signal.ledger.read.forecasts import forecasts_of
from learning_signal.ledger.read.reader import Reader

SURE = 0.5
"""A forecast says more than that a candidate helps from this probability on."""
CUT = ("length", "max_tokens", "MAX_TOKENS")
"""How servers say that a reply ended at its limit."""


@dataclass(frozen=True)
class Spotted:
    """Something that a scanner found, and the event to open."""

    scanner: str
    session: str
    event: int
    round: int | None
    agent: str | None
    sentence: str

    @property
    def place(self) -> str:
        """As ``log show`` takes it."""
        return f"{self.session}#{self.event}"


Found = Iterator[tuple[int, str | None, str]]
"""Event, agent and a sentence."""


@dataclass(frozen=True)
class Scanner:
    """One rule."""

    looks_for: str
    scan: Callable[[Reader, str], Found]


def scan(reader: Reader, sessions: Sequence[str], only: Sequence[str] = ()) -> list[Spotted]:
    """What the scanners (or those named) find in each session, in the order of its events.

    Raises:
        LedgerError: there is no such scanner.
    """
    for name in only:
        if name not in SCANNERS:
            raise LedgerError(f"There is no scanner {name!r}, expected some of {', '.join(SCANNERS)}: name these.")
    found = []
    for session in sessions:
        numbered = reader.rows("SELECT seq, round FROM events WHERE session_id = ?", (session,))
        rounds = {row["seq"]: row["round"] for row in numbered}
        spotted = [
            Spotted(name, session, event, rounds.get(event), agent, " ".join(sentence.split()))
            for name, scanner in SCANNERS.items()
            if not only or name in only
            for event, agent, sentence in scanner.scan(reader, session)
        ]
        found += sorted(spotted, key=lambda each: each.event)
    return found


def _marks(*kinds: str) -> Callable[[Reader, str], Found]:
    def scan_marks(reader: Reader, session: str) -> Found:
        for claim in claims(reader, session):
            for mark in claim.marks:
                if mark.get("kind") in kinds:
                    yield claim.event_seq, claim.agent, str(mark.get("problem", "-"))

    return scan_marks


def _forecasts(reader: Reader, session: str) -> Found:
    events = _candidate_events(reader, session)
    for each in forecasts_of(reader, session):
        said = each.probability > SURE
        if each.difference is not None and said is not each.came_true and each.probability != SURE:
            sentence = (
                f"forecast {each.measure.replace('_', ' ')} {each.change:+.3g} of {each.candidate} with "
                f"{each.probability:.2g}, measured {each.difference:+.3g} ({each.measured_by})"
            )
            yield events[each.round, each.candidate], each.role, sentence


def _candidate_events(reader: Reader, session: str) -> dict[tuple[int, str], int]:
    """The event of the proposal of each candidate, by round and name."""
    rows = reader.rows(
        "SELECT c.name, p.round, p.event_seq FROM candidates c JOIN proposals p ON p.id = c.proposal_id "
        "WHERE p.session_id = ?",
        (session,),
    )
    return {(row["round"], row["name"]): row["event_seq"] for row in rows}


def _repeated(reader: Reader, session: str) -> Found:
    rows = reader.rows(
        "SELECT c.id, c.shaping_hash, p.event_seq FROM candidates c JOIN proposals p ON p.id = c.proposal_id "
        "WHERE p.session_id = ? ORDER BY p.event_seq, c.rowid",
        (session,),
    )
    first: dict[str, str] = {}
    for row in rows:
        name = str(row["id"]).partition("/")[2]
        if (before := first.setdefault(row["shaping_hash"], name)) != name:
            yield row["event_seq"], "generator", f"{name} is the shaping that was proposed as {before}"


def _against(reader: Reader, session: str) -> Found:
    for decision in reader.decisions(session):
        verdicts = reader.verdicts(session, decision.round)
        passed = [str(each.candidate_id).partition("/")[2] for each in verdicts if each.outcome == "pass"]
        if decision.action == "keep" and passed:
            yield decision.event_seq, decision.decided_by, f"kept the shaping, although {passed[-1]} had passed"
    yield from _marks("outcome")(reader, session)


def _cut(reader: Reader, session: str) -> Found:
    for row in _calls(reader, session):
        if row["finish_reason"] in CUT or row["error_kind"] == "truncated":
            yield row["event_seq"], row["agent"], "the reply was cut at its limit of tokens"
        elif row["error"] and "cut the prompt" in row["error"]:
            yield row["event_seq"], row["agent"], row["error"]
        elif row["left_out"]:
            yield row["event_seq"], row["agent"], f"{row['left_out']} turns were left out: the context window is full"


def _empty(reader: Reader, session: str) -> Found:
    for row in _calls(reader, session):
        if row["error_kind"] == "empty":
            yield row["event_seq"], row["agent"], f"{row['spec']} replied with nothing"


def _calls(reader: Reader, session: str) -> list[dict[str, Any]]:
    return reader.rows(
        "SELECT c.event_seq, c.agent, c.spec, c.finish_reason, c.error_kind, c.error, "
        "CASE WHEN json_valid(b.body) THEN json_extract(b.body, '$.left_out') END left_out "
        "FROM llm_calls c LEFT JOIN bodies b ON b.hash = c.reply WHERE c.session_id = ? ORDER BY c.id",
        (session,),
    )


def _refused(reader: Reader, session: str) -> Found:
    rows = reader.rows(
        "SELECT t.event_seq, t.agent, t.name, b.body result FROM tool_calls t LEFT JOIN bodies b ON b.hash = t.result "
        "WHERE t.session_id = ? AND t.status IN ('refused', 'error') ORDER BY t.id",
        (session,),
    )
    for row in rows:
        told = str(row["result"] or "-").removeprefix("ERROR: ")
        yield row["event_seq"], row["agent"], f"{row['name']}: {told.strip().partition(chr(10))[0]}"


def _gave_up(reader: Reader, session: str) -> Found:
    for event in troubles_of(reader, session):
        yield event.seq, event.agent, event.title


SCANNERS = {
    "numbers": Scanner(
        "claims with a number, a name or evidence that the record does not have",
        _marks("number", "evidence", "name", "id", "stage"),
    ),
    "instructions": Scanner("orders to other agents or to the gate in an agent's words", _marks("instruction")),
    "against": Scanner("words or decisions against the computed verdict", _against),
    "forecasts": Scanner("forecasts that were wrong about the sign", _forecasts),
    "repeated": Scanner("the same shaping proposed twice", _repeated),
    "refused": Scanner("calls that were answered with an error", _refused),
    "gave-up": Scanner("agents that gave up, and backends that another one replaced", _gave_up),
    "cut": Scanner("replies and prompts that were cut", _cut),
    "empty": Scanner("replies with neither text nor a call", _empty),
}
"""By name, in the order in which they are listed."""
