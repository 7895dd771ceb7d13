"""Why a decision was taken: follow it back to its diagnosis, and forward to how it held."""

from __future__ import annotations

import difflib
import re
from dataclasses import replace
from typing import Any

from learning_signal.ledger.errors import LedgerError
from learning_signal.ledger.read.claims import claims
from learning_signal.ledger.read.decision.deliberation import questions, refusals, round_cost
from learning_signal.ledger.read.decision.otherwise import otherwise
from learning_signal.ledger.read.fates import JUDGED, stored_fates
from learning_signal.ledger.read.forecasts import measured
from learning_signal.ledger.read.outside import sources_of
from learning_signal.ledger.read.reader import Reader
from learning_signal.ledger.read.records import (
    BranchRow,
    BranchSegment,
    CandidateRow,
    ComparisonRow,
    DecisionChain,
    DecisionRow,
    DiagnosisRow,
    EventRow,
    EvidenceRow,
    VerdictRow,
)
from learning_signal.ledger.read.remarks import stored_remarks
from learning_signal.ledger.read.training import SegmentRow
from learning_signal.ledger.wording import OUTSIDER, shaping_changes

TROUBLES = ("error", "fallback")
"""Kinds of events in which an agent gives up, or another backend takes over from it."""
_EVIDENCE_ID = re.compile(r"^E[0-9]+$")


def explain(reader: Reader, decision: str = "latest") -> DecisionChain:
    """Return everything one decision rests on.

    Args:
        decision: a decision's id, ``latest``, ``R2`` or ``2`` (of the latest session), ``SESSION`` (its last
            decision), or ``SESSION/2``; a session may be given by the beginning of its id.

    Raises:
        LedgerError: there is no such decision; the sentence names the nearest.
    """
    chosen = find_decision(reader, decision)
    session, round_ = chosen.session_id, chosen.round
    every, trained = reader.comparisons(session), reader.segments(session)
    comparisons = [each for each in every if each.round == round_ and each.purpose != "probation"]
    branches = _branches(reader, trained, session, round_, comparisons)
    ends = {each.segment.id for branch in branches for each in branch.segments}
    verdicts = reader.verdicts(session, round_)
    verdict = next((each for each in verdicts if each.id == chosen.verdict_id), None)
    rests_on = chosen.comparison_id or (verdict.comparison_id if verdict else None)
    candidates = _candidates(reader, session, round_, branches, comparisons, verdicts)
    candidates = [
        replace(each, changes=tuple(shaping_changes(chosen.shaping_from, each.shaping))) for each in candidates
    ]
    rolled_back_by = _rolled_back_by(reader, chosen)
    comparison = next((each for each in every if each.id == rests_on), None)
    approvals = reader.events(session, round=round_, kind="approval")
    return DecisionChain(
        decision=chosen,
        diagnosis=_diagnosis(reader, session, round_),
        candidate=next((each for each in candidates if each.id == chosen.candidate_id), None),
        candidates=candidates,
        branches=branches,
        late=[each for each in trained.values() if each.env_steps == 0 and each.parent in ends],
        comparisons=comparisons,
        comparison=comparison,
        verdict=verdict,
        verdicts=verdicts,
        approvals=approvals,
        probation=_probation(reader, every, chosen),
        rolled_back_by=rolled_back_by,
        need=next(iter(reader.events(session, round=round_, kind="need")), None),
        choices=_choices(reader, session, round_, branches),
        troubles=troubles_of(reader, session, round_),
        claims=claims(reader, session, round_),
        shadows=reader.events(session, round=round_, kind="shadow"),
        requests=reader.events(session, round=round_, kind=OUTSIDER),
        questions=questions(reader, session, round_),
        refusals=refusals(reader, session, round_),
        cost=round_cost(reader, session, round_),
        otherwise=otherwise(chosen, comparison, comparisons, verdicts, candidates, approvals),
    )


def find_decision(reader: Reader, decision: str) -> DecisionRow:
    """The decision meant by ``decision``; see ``explain``."""
    rows = reader.rows("SELECT * FROM decisions WHERE id = ?", (decision,))
    if rows:
        return reader.decision(rows[0])
    if re.fullmatch(r"R?[0-9]{1,4}", decision):
        session, name = "latest", decision
    else:
        session, _, name = decision.partition("/")
    if session == "latest" and not name:
        newest = reader.rows("SELECT * FROM decisions ORDER BY event_seq DESC LIMIT 1")
        if newest:
            return reader.decision(newest[0])
    session_id = reader.session_id(session)
    made = reader.decisions(session_id)
    if not made and reader.session(session_id).kind == "training":
        raise LedgerError(
            f"Session {session_id} is a training run without agents, in which nothing is decided; "
            f"see what it came to with 'log show {session_id}', or give another session."
        )
    if not made:
        raise LedgerError(f"Session {session_id} has made no decision yet; give another session.")
    if not name:
        return made[-1]
    fits = [each for each in made if each.id == f"{session_id}/{name}"]
    if not fits and re.fullmatch(r"R?[0-9]+", name):
        fits = [each for each in made if each.round == int(name.removeprefix("R"))]
    if not fits:
        known = [each.id for each in made]
        nearest = difflib.get_close_matches(f"{session_id}/{name}", known, n=3, cutoff=0.3) or known[-3:]
        raise LedgerError(
            f"There is no decision {decision!r}; the nearest are {', '.join(nearest)}: give one, or 'latest'."
        )
    return fits[0]


def troubles_of(reader: Reader, session: str = "latest", round: int | None = None) -> list[EventRow]:
    """The events in which agents gave up or were replaced, in order; ``round`` None is all of them."""
    found = [each for kind in TROUBLES for each in reader.events(session, round=round, kind=kind)]
    return sorted((each for each in found if each.agent is not None), key=lambda each: each.seq)


def cited_evidence(body: Any) -> list[str]:
    """The evidence ids (E1, E2 ...) in a diagnosis, in order, each once."""
    if isinstance(body, str):
        return [body] if _EVIDENCE_ID.match(body) else []
    parts = body.values() if isinstance(body, dict) else body if isinstance(body, list) else []
    return list(dict.fromkeys(found for part in parts for found in cited_evidence(part)))


def _diagnosis(reader: Reader, session: str, round_: int) -> DiagnosisRow | None:
    rows = reader.rows("SELECT * FROM diagnoses WHERE session_id = ? AND round = ?", (session, round_))
    if not rows:
        return None
    body = reader.json(rows[0]["body"])
    evidence = [_evidence(reader, session, each) for each in cited_evidence(body)]
    return DiagnosisRow(rows[0]["id"], rows[0]["event_seq"], rows[0]["stage"], body, evidence)


def _choices(reader: Reader, session: str, round_: int, branches: list[BranchRow]) -> list[EventRow]:
    confirmed = {each.id for each in branches if each.purpose == "confirm" and each.candidate_id is not None}
    launched = [each for each in reader.events(session, round=round_, kind="branch") if each.ref_id in confirmed]
    return sorted(launched + reader.events(session, round=round_, kind="sent_back"), key=lambda each: each.seq)


def _evidence(reader: Reader, session: str, evidence_id: str) -> EvidenceRow:
    rows = reader.rows("SELECT * FROM tool_calls WHERE session_id = ? AND evidence_id = ?", (session, evidence_id))
    if not rows:
        return EvidenceRow(evidence_id, None, None, None, None, None)
    row = reader.read("tool_calls", rows[0])
    return EvidenceRow(evidence_id, row["event_seq"], row["agent"], row["name"], row["arguments"], row["result"])


def _branches(
    reader: Reader, segments: dict[str, SegmentRow], session: str, round_: int, comparisons: list[ComparisonRow]
) -> list[BranchRow]:
    measured = {
        (comparison.purpose, seed["segment"]): seed
        for comparison in comparisons
        for seeds in (comparison.inputs.get("arms") or {}).values()
        for seed in seeds
    }
    branches = []
    for row in reader.rows(
        "SELECT * FROM branches WHERE session_id = ? AND round = ? ORDER BY event_seq, rowid", (session, round_)
    ):
        seeds = []
        for segment in reader.rows("SELECT * FROM branch_segments WHERE branch_id = ? ORDER BY position", (row["id"],)):
            measure = measured.get((row["purpose"], segment["segment_id"]), {})
            seeds.append(
                BranchSegment(
                    segment["position"],
                    segments[segment["segment_id"]],
                    measure.get("sparse_return"),
                    measure.get("progress"),
                )
            )
        names = ("id", "refinement", "purpose", "arm", "candidate_id", "event_seq")
        branches.append(BranchRow(**{name: row[name] for name in names}, segments=seeds))
    return branches


def _candidates(
    reader: Reader,
    session: str,
    round_: int,
    branches: list[BranchRow],
    comparisons: list[ComparisonRow],
    verdicts: list[VerdictRow],
) -> list[CandidateRow]:
    rows = reader.rows(
        "SELECT c.*, p.refinement FROM candidates c JOIN proposals p ON p.id = c.proposal_id "
        "WHERE p.session_id = ? AND p.round = ? ORDER BY p.refinement, c.rowid",
        (session, round_),
    )
    promoted = {
        row["candidate_id"]
        for row in reader.rows(
            "SELECT candidate_id FROM decisions WHERE session_id = ? AND action = 'promote'", (session,)
        )
    }
    stored = {one.candidate_id: (one.fate, one.reason) for one in stored_fates(reader, session)}  # the last counts
    doubts, sources = stored_remarks(reader, session), sources_of(reader, session)
    candidates = []
    for row in rows:
        fate, detail = stored.get(row["id"]) or _fate(row, promoted, branches, comparisons, verdicts)
        found = measured(comparisons, row["id"], (round_, row["refinement"]), row["forecast_metric"])
        told: dict[str, Any] = {"fate": fate, "detail": detail}
        told["difference"], told["measured_by"] = found
        told["remarks"], told["answer"] = doubts.get(row["id"], ((), None))
        told["source"] = sources.get(row["id"])
        del row["session_id"]
        candidates.append(CandidateRow(**row | {"shaping": reader.json(row["shaping"])} | told))
    return candidates


def _fate(
    candidate: dict[str, Any],
    promoted: set[str],
    branches: list[BranchRow],
    comparisons: list[ComparisonRow],
    verdicts: list[VerdictRow],
) -> tuple[str, str | None]:
    """The fate of a candidate that has none stored: of version 1, or of a round that is not over."""
    verdict = next((each for each in reversed(verdicts) if each.candidate_id == candidate["id"]), None)
    if candidate["id"] in promoted:
        return "promoted", verdict.reason if verdict else None
    if verdict is not None:
        return JUDGED[verdict.outcome], verdict.reason
    mine = [each for each in branches if each.candidate_id == candidate["id"]]
    failed = [seed.segment.reason for branch in mine for seed in branch.segments if seed.segment.status == "error"]
    if failed:
        return "branch failed", failed[0]
    screens = [
        each
        for each in comparisons
        if each.purpose == "screen"
        and each.refinement == candidate["refinement"]
        and candidate["name"] in [arm.get("name") for arm in each.result.get("arms") or ()]
    ]
    if mine and screens:
        return "screened out", screens[-1].result.get("reason")
    return "not screened", None


def _probation(reader: Reader, comparisons: list[ComparisonRow], decision: DecisionRow) -> ComparisonRow | None:
    """The probation a promotion was put to: the first one after it and before the next promotion."""
    if decision.action != "promote":
        return None
    later = [
        each.event_seq
        for each in reader.decisions(decision.session_id)
        if each.action == "promote" and each.number > decision.number
    ]
    end = min(later, default=float("inf"))
    for comparison in comparisons:
        if comparison.purpose == "probation" and decision.event_seq < comparison.event_seq < end:
            return comparison
    return None


def _rolled_back_by(reader: Reader, decision: DecisionRow) -> DecisionRow | None:
    """The next decision about HEAD after a promotion, where it is a roll back."""
    if decision.action != "promote":
        return None
    for later in reader.decisions(decision.session_id):
        if later.number > decision.number and later.action != "keep":
            return later if later.action == "roll_back" else None
    return None
