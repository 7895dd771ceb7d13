"""What code found doubtful about candidates, and the Generator's answers: read, and checked against the proposals."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from learning_signal.ledger.read.query import Query
from learning_signal.ledger.read.records import Finding

Remarks = dict[str, tuple[tuple[str, ...], str | None]]
"""By candidate: the remarks, one sentence each, and the answer."""


def stored_remarks(reader: Query, session: str) -> Remarks:
    """The remarks of a session; none in a ledger of a version before 7, which made none."""
    if not reader.has_table("remarks"):
        return {}
    return _remarks(reader.rows("SELECT candidate_id, remarks, answer FROM remarks WHERE session_id = ?", (session,)))


def remarks_of(reader: Query, candidates: Sequence[str]) -> Remarks:
    """The remarks on these candidates."""
    return _remarks(reader.rows_with("remarks", "candidate_id", candidates) if reader.has_table("remarks") else [])


def _remarks(rows: Iterable[dict[str, Any]]) -> Remarks:
    return {row["candidate_id"]: (tuple(json.loads(row["remarks"])), row["answer"]) for row in rows}


def check_remarks(reader: Query) -> list[Finding]:
    """Whether the remarks and answers are those of the proposals as they were accepted."""
    findings = []
    for session in reader.rows("SELECT DISTINCT session_id AS id FROM proposals"):
        stored, proposed = stored_remarks(reader, session["id"]), _proposed(reader, session["id"])
        for candidate in sorted(stored.keys() | proposed.keys()):
            if stored.get(candidate) != proposed.get(candidate):
                findings.append(Finding("remarks", candidate, "the remarks are not those of its proposal"))
    return findings


def _proposed(reader: Query, session: str) -> Remarks:
    found: Remarks = {}
    for row in reader.rows("SELECT id, body FROM proposals WHERE session_id = ?", (session,)):
        for candidate in reader.object(row["body"])["candidates"]:
            if candidate.get("remarks"):
                texts = tuple(remark["text"] for remark in candidate["remarks"])
                found[f"{row['id']}/{candidate['name']}"] = texts, candidate["answer"]
    return found
