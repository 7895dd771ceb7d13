"""The hash chain of decisions: each covers its own row, the rows it rests on, and the decision before."""

from __future__ import annotations

from typing import Any

from learning_signal.ledger.canonical import canonical_json, content_hash
from learning_signal.ledger.write.rows import RowWriter

RESTS_ON = {
    "candidate": ("candidates", "candidate_id"),
    "verdict": ("verdicts", "verdict_id"),
    "comparison": ("comparisons", "comparison_id"),
}
"""The rows a decision's hash covers besides its own: name -> (table, column of the decision)."""


def chained(ledger: RowWriter, session_id: str, row: dict[str, Any]) -> dict[str, Any]:
    """Return the whole next decision of a session: ``row`` with its number, previous hash and hash."""
    number, previous_hash = previous_decision(ledger, session_id)
    columns = ledger.stored("decisions", {**row, "session_id": session_id})
    columns |= {"number": number + 1, "previous_hash": previous_hash}
    rests_on = {
        name: None if columns[column] is None else ledger.row(table, columns[column])
        for name, (table, column) in RESTS_ON.items()
    }
    # The comparison of the verdict is evidence too, also where the decision itself names none.
    verdict = rests_on["verdict"]
    rests_on["judged"] = ledger.row("comparisons", verdict["comparison_id"]) if verdict else None
    return columns | {"hash": decision_hash(columns, rests_on)}


def previous_decision(ledger: RowWriter, session_id: str) -> tuple[int, str]:
    """Number and hash of the session's last decision; (0, "") when it has none."""
    rows = ledger.rows(
        "SELECT number, hash FROM decisions WHERE session_id = ? ORDER BY number DESC LIMIT 1", (session_id,)
    )
    return (rows[0]["number"], rows[0]["hash"]) if rows else (0, "")


def decision_hash(decision: dict[str, Any], rests_on: dict[str, dict[str, Any] | None]) -> str:
    """Return the chain hash of a decision.

    Args:
        decision: all columns of the decision except ``hash``, ``previous_hash`` included.
        rests_on: the candidate, verdict and comparison rows it names, and as ``judged`` the comparison its
            verdict rests on; None where there is none. They are part of the hash so that neither a verdict
            nor a statistic can be exchanged under a decision.
    """
    columns = {name: value for name, value in decision.items() if name != "hash"}
    return content_hash(canonical_json({"decision": columns, "rests_on": rests_on}))
