"""Claims checked from the rows of the ledger alone: when they are made, and again by ``log verify``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from learning_signal.ledger.read.claims import ClaimRow
from learning_signal.ledger.read.reader import Reader
from learning_signal.tools.base import compact
from learning_signal.tools.claims.diagnosis import marks_of_diagnosis, spoken
from learning_signal.tools.claims.mark import Known, Mark
from learning_signal.tools.claims.numbers import written_numbers
from learning_signal.tools.claims.record import Number, numbers_in, numbers_of
from learning_signal.tools.claims.round import SAID, RoundRecord, marks_of_rationale, marks_of_words
from learning_signal.tools.claims.words import stated
from learning_signal.tools.contracts import Diagnosis

_OF_AGENTS = (
    "ask",
    "submit_diagnosis",
    "submit_proposal",
    "submit_validation",
    "promote",
    "keep",
    "roll_back",
    "send_back",
)
"""Tools whose results hold words of agents, or nothing: no record."""
_WITH_A_REASON = ("confirm", "launch_branch", "extend_screen")
"""Tools whose calls hold a reason, which was given before there was their result."""
END = 2**62
"""After every event."""


def marks_of(reader: Reader, claim: ClaimRow, known: Known) -> tuple[Mark, ...]:
    """What the record, as it was at the claim's event, does not support in its words."""
    evidence = _evidence(reader, claim)
    if claim.about == "diagnoses":
        return marks_of_diagnosis(Diagnosis.model_validate(claim.words), evidence, known)
    record = _round_record(reader, claim, evidence, known)
    if claim.about == "proposals":
        found = [marks_of_rationale(f"rationale of {name}", text, record, known) for name, text in claim.words.items()]
        return tuple(mark for marks in found for mark in marks)
    promotes = claim.words.get("promotes")
    texts = {name: text for name, text in claim.words.items() if name != "promotes" and text}
    found = [marks_of_words(name, text, record, known, promotes=promotes) for name, text in texts.items()]
    return tuple(mark for marks in found for mark in marks)


def recheck(reader: Reader, claim: ClaimRow) -> list[dict[str, Any]]:
    """The marks of a stored claim, computed again, as plain data. For ``ledger.read.verify``."""
    return [mark.model_dump() for mark in marks_of(reader, claim, Known.model_validate(claim.known))]


def _evidence(reader: Reader, claim: ClaimRow) -> dict[str, str | None]:
    rows = reader.rows(
        "SELECT evidence_id, result FROM tool_calls WHERE session_id = ? AND event_seq < ? AND evidence_id IS NOT NULL "
        "ORDER BY id",
        (claim.session_id, claim.event_seq),
    )
    return {row["evidence_id"]: reader.body(row["result"]) for row in rows}


def _round_record(reader: Reader, claim: ClaimRow, evidence: Mapping[str, str | None], known: Known) -> RoundRecord:
    before = (claim.session_id, claim.event_seq)
    comparisons = reader.rows(
        "SELECT c.id, c.round, c.purpose, c.candidate_id, "
        "result.body result, inputs.body inputs, settings.body settings FROM comparisons c "
        "LEFT JOIN bodies result ON result.hash = c.result LEFT JOIN bodies inputs ON inputs.hash = c.inputs "
        "LEFT JOIN bodies settings ON settings.hash = c.settings WHERE c.session_id = ? AND c.event_seq < ?",
        before,
    )
    compared = [(row, _compared(row["result"], row["inputs"], row["settings"])) for row in comparisons]
    verdicts = reader.rows("SELECT id, reason FROM verdicts WHERE session_id = ? AND event_seq < ?", before)
    candidates = reader.rows(
        "SELECT c.name FROM candidates c JOIN proposals p ON p.id = c.proposal_id "
        "WHERE p.session_id = ? AND p.event_seq < ?",
        before,
    )
    branches = reader.rows("SELECT id FROM branches WHERE session_id = ? AND event_seq < ?", before)
    outcomes: dict[str, frozenset[str]] = {}
    for row, (outcome, _) in compared:
        here = claim.about == "proposals" or row["round"] == claim.round
        if row["purpose"] == "confirm" and row["candidate_id"] is not None and here:
            name = _name(row["candidate_id"])
            outcomes[name] = outcomes.get(name, frozenset()) | {outcome}
    broken = reader.rows(
        "SELECT DISTINCT b.arm FROM branches b JOIN branch_segments s ON s.branch_id = b.id "
        "JOIN segments t ON t.session_id = s.session_id AND t.id = s.segment_id "
        "WHERE b.session_id = ? AND b.event_seq < ? AND b.round = ? AND t.status = 'error'",
        (*before, claim.round),
    )
    numbers = numbers_in(known.told)
    for _, (_, measured) in compared:
        numbers += measured
    for verdict in verdicts:
        numbers += _in_sentence(verdict["reason"])
    for result in _results(reader, claim):
        numbers += numbers_of(result)
    own = claim.words if claim.about == "proposals" else {}
    return RoundRecord(
        ids=frozenset(evidence)
        | {_name(row["id"]) for row in comparisons}
        | {_name(row["id"]) for row in branches}
        | {row["name"] for row in candidates}
        | set(own),
        outcomes=outcomes,
        broken=frozenset(row["arm"] for row in broken),
        numbers=tuple(numbers),
        evidence=evidence,
    )


@lru_cache(maxsize=2048)
def _compared(result: str, inputs: str, settings: str) -> tuple[str, tuple[Number, ...]]:
    """The outcome of a comparison and its numbers, from its bodies: it is held against every claim after it."""
    found = json.loads(result)
    told = {"result": found, "arms": json.loads(inputs).get("arms"), "settings": json.loads(settings)}
    numbers = (*numbers_of(compact(told)), *_in_sentence(str(found.get("reason") or "")))
    return str(found.get("outcome")), numbers


def _results(reader: Reader, claim: ClaimRow) -> list[str | None]:
    """What tools answered in the round before the claim: not the call that the claim is the reason of."""
    marks = ", ".join("?" for _ in _OF_AGENTS)
    rows = reader.rows(
        "SELECT name, arguments, result FROM tool_calls WHERE session_id = ? AND event_seq < ? AND round = ? "
        "AND event_seq >= (SELECT min(seq) FROM events WHERE session_id = ?) "  # by the index, not from the first on
        f"AND status = 'ok' AND name NOT IN ({marks})",
        (claim.session_id, claim.event_seq, claim.round, claim.session_id, *_OF_AGENTS),
    )
    return [reader.body(row["result"]) for row in rows if not _is_reason_of(reader, claim, row)]


def _is_reason_of(reader: Reader, claim: ClaimRow, call: Mapping[str, Any]) -> bool:
    if claim.about != "events" or call["name"] not in _WITH_A_REASON:
        return False
    try:
        arguments = json.loads(reader.body(call["arguments"]) or "")
    except ValueError:
        return False
    return isinstance(arguments, dict) and arguments.get("reason") == claim.words.get("reason")


@lru_cache(maxsize=512)
def _in_sentence(sentence: str) -> tuple[Number, ...]:
    """The numbers of a computed sentence, each with what it says of it."""
    numbers = written_numbers(sentence)
    names = stated(sentence, numbers, spoken(SAID))
    return tuple(
        Number(each.value * (each.sign or 1), frozenset({names[each.start]})) for each in numbers if each.start in names
    )


def _name(identity: str) -> str:
    return identity.rpartition("/")[2]
