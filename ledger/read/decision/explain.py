"""Why a decision was taken: follow it back to its diagnosis, and forward to how it held."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from learning_signal.ledger.errors import LedgerError
from learning_signal.ledger.read.claims import claims
from learning_signal.ledger.read.decision.deliberation import questions, refusals, round_cost
from learning_signal.ledger.read.decision.otherwise import otherwise
from learning_signal.ledger.read.fates import JUDGED, fates_of
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
from learning_signal.ledger.read.remarks import remarks_of
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
    return _explained(reader, chosen, _whole(reader, chosen.session_id))


def explain_all(reader: Reader, session: str = "latest") -> list[DecisionChain]:
    """Return the same for every decision of a session, in order."""
    made = reader.decisions(session)
    whole = _whole(reader, made[0].session_id) if made else None
    return [_explained(reader, each, whole) for each in made if whole is not None]


class _Whole(NamedTuple):
    """What is read of a whole session, once for all of its decisions."""

    spans: dict[int, tuple[int, int]]
    """The first and the last event of each round; between them may be others."""
    late: dict[str, list[str]]
    """By the segment at whose end they were played, segments of 0 env steps."""


def _whole(reader: Reader, session: str) -> _Whole:
    spans = reader.rows(
        "SELECT round, min(seq) first, max(seq) last FROM events WHERE session_id = ? AND round IS NOT NULL GROUP BY 1",
        (session,),
    )
    late: dict[str, list[str]] = {}
    for row in reader.rows(
        "SELECT id, parent FROM segments WHERE session_id = ? AND env_steps = 0 ORDER BY rowid", (session,)
    ):
        late.setdefault(row["parent"], []).append(row["id"])
    return _Whole({row["round"]: (row["first"], row["last"]) for row in spans}, late)


def _explained(reader: Reader, chosen: DecisionRow, whole: _Whole) -> DecisionChain:
    session, round_ = chosen.session_id, chosen.round
    events = _events(reader, chosen, whole)

    def told(*kinds: str) -> list[EventRow]:
        return [each for each in events if each.kind in kinds]

    comparisons = [each for each in reader.comparisons(session, round_) if each.purpose != "probation"]
    branches = _branches(reader, session, round_, comparisons)
    ends = {each.segment.id for branch in branches for each in branch.segments}
    verdicts = reader.verdicts(session, round_)
    verdict = next((each for each in verdicts if each.id == chosen.verdict_id), None)
    rests_on = chosen.comparison_id or (verdict.comparison_id if verdict else None)
    comparison = next((each for each in comparisons if each.id == rests_on), None) or _comparison(reader, rests_on)
    candidates = _candidates(reader, session, round_, branches, comparisons, verdicts)
    candidates = [
        replace(each, changes=tuple(shaping_changes(chosen.shaping_from, each.shaping))) for each in candidates
    ]
    approvals = told("approval")
    return DecisionChain(
        decision=chosen,
        diagnosis=_diagnosis(reader, session, round_),
        candidate=next((each for each in candidates if each.id == chosen.candidate_id), None),
        candidates=candidates,
        branches=branches,
        late=list(reader.segments(session, [late for end in ends for late in whole.late.get(end, ())]).values()),
        comparisons=comparisons,
        comparison=comparison,
        verdict=verdict,
        verdicts=verdicts,
        approvals=approvals,
        probation=_probation(reader, chosen),
        rolled_back_by=_rolled_back_by(reader, chosen),
        need=next(iter(told("need")), None),
        choices=_choices(events, branches),
        troubles=[each for each in told(*TROUBLES) if each.agent is not None],
        claims=claims(reader, session, round_),
        shadows=told("shadow"),
        requests=told(OUTSIDER),
        questions=questions(reader, events),
        refusals=refusals(reader, events),
        cost=round_cost(reader, events),
        otherwise=otherwise(chosen, comparison, comparisons, verdicts, candidates, approvals),
    )


def _events(reader: Reader, decision: DecisionRow, whole: _Whole) -> list[EventRow]:
    """The events of the round of a decision, in order."""
    first, last = whole.spans.get(decision.round, (decision.event_seq, decision.event_seq))
    rows = reader.rows(
        "SELECT * FROM events WHERE session_id = ? AND seq BETWEEN ? AND ? AND round = ? ORDER BY seq",
        (decision.session_id, first, last, decision.round),
    )
    return [EventRow(**row) for row in rows]


def _comparison(reader: Reader, identity: str | None) -> ComparisonRow | None:
    """A comparison of another round: a roll back rests on one."""
    found = reader.rows("SELECT * FROM comparisons WHERE id = ?", (identity,))
    return reader.comparison(found[0]) if found else None


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
    body = reader.object(rows[0]["body"])
    evidence = [_evidence(reader, session, each) for each in cited_evidence(body)]
    return DiagnosisRow(rows[0]["id"], rows[0]["event_seq"], rows[0]["stage"], body, evidence)


def _choices(events: Sequence[EventRow], branches: list[BranchRow]) -> list[EventRow]:
    confirmed = {each.id for each in branches if each.purpose == "confirm" and each.candidate_id is not None}
    return [each for each in events if each.kind == "sent_back" or each.kind == "branch" and each.ref_id in confirmed]


def _evidence(reader: Reader, session: str, evidence_id: str) -> EvidenceRow:
    rows = reader.rows("SELECT * FROM tool_calls WHERE session_id = ? AND evidence_id = ?", (session, evidence_id))
    if not rows:
        return EvidenceRow(evidence_id, None, None, None, None, None)
    row = reader.read("tool_calls", rows[0])
    return EvidenceRow(evidence_id, row["event_seq"], row["agent"], row["name"], row["arguments"], row["result"])


def _branches(reader: Reader, session: str, round_: int, comparisons: list[ComparisonRow]) -> list[BranchRow]:
    measured = {
        (comparison.purpose, seed["segment"]): seed
        for comparison in comparisons
        for seeds in (comparison.inputs.get("arms") or {}).values()
        for seed in seeds
    }
    rows = reader.rows(
        "SELECT * FROM branches WHERE session_id = ? AND round = ? ORDER BY event_seq, rowid", (session, round_)
    )
    parts: dict[str, list[dict[str, Any]]] = {row["id"]: [] for row in rows}
    for part in reader.rows_with("branch_segments", "branch_id", list(parts)):
        parts[part["branch_id"]].append(part)
    used = [each["segment_id"] for some in parts.values() for each in some]
    trained = reader.segments(session, list(dict.fromkeys(used)))
    branches = []
    for row in rows:
        seeds = []
        for part in sorted(parts[row["id"]], key=lambda each: each["position"]):
            segment = trained[part["segment_id"]]
            measure = measured.get((row["purpose"], segment.id), {})
            seeds.append(
                BranchSegment(part["position"], segment, measure.get("sparse_return"), measure.get("progress"))
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
    ids = [row["id"] for row in rows]
    stored, doubts = fates_of(reader, ids), remarks_of(reader, ids)
    sources = sources_of(reader, session, round_)
    candidates = []
    for row in rows:
        known = stored.get(row["id"])
        fate, detail = (known.fate, known.reason) if known else _fate(reader, row, branches, comparisons, verdicts)
        found = measured(comparisons, row["id"], (round_, row["refinement"]), row["forecast_metric"])
        told: dict[str, Any] = {"fate": fate, "detail": detail}
        told["difference"], told["measured_by"] = found
        told["remarks"], told["answer"] = doubts.get(row["id"], ((), None))
        told["source"] = sources.get(row["id"])
        del row["session_id"]
        candidates.append(CandidateRow(**row | {"shaping": reader.object(row["shaping"])} | told))
    return candidates


def _fate(
    reader: Reader,
    candidate: dict[str, Any],
    branches: list[BranchRow],
    comparisons: list[ComparisonRow],
    verdicts: list[VerdictRow],
) -> tuple[str, str | None]:
    """The fate of a candidate that has none stored: of version 1, or of a round that is not over."""
    verdict = next((each for each in reversed(verdicts) if each.candidate_id == candidate["id"]), None)
    if reader.rows("SELECT 1 FROM decisions WHERE action = 'promote' AND candidate_id = ?", (candidate["id"],)):
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


def _probation(reader: Reader, decision: DecisionRow) -> ComparisonRow | None:
    """The probation a promotion was put to: the first one after it and before the next promotion."""
    if decision.action != "promote":
        return None
    found = reader.rows(
        "SELECT * FROM comparisons WHERE session_id = ?1 AND purpose = 'probation' AND event_seq > ?2 AND event_seq < "
        "coalesce((SELECT min(event_seq) FROM decisions WHERE session_id = ?1 AND action = 'promote' AND number > ?3), "
        "event_seq + 1) ORDER BY event_seq LIMIT 1",
        (decision.session_id, decision.event_seq, decision.number),
    )
    return reader.comparison(found[0]) if found else None


def _rolled_back_by(reader: Reader, decision: DecisionRow) -> DecisionRow | None:
    """The next decision about HEAD after a promotion, where it is a roll back."""
    if decision.action != "promote":
        return None
    found = reader.rows(
        "SELECT * FROM decisions WHERE session_id = ? AND number > ? AND action <> 'keep' ORDER BY number LIMIT 1",
        (decision.session_id, decision.number),
    )
    return reader.decision(found[0]) if found and found[0]["action"] == "roll_back" else None
