"""One decision on one screen: diagnosis, evidence, proposals, branches, statistics, verdict, decision, aftermath."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from learning_signal.ledger.read.claims import ClaimRow
from learning_signal.ledger.read.decision.cited import cited_numbers
from learning_signal.ledger.read.records import (
    BranchRow,
    CandidateRow,
    DecisionChain,
    DecisionRow,
    EventRow,
    EvidenceRow,
    QuestionRow,
    RefusedRow,
    RoundCost,
    VerdictRow,
)
from learning_signal.ledger.read.training import SegmentRow
from learning_signal.ledger.wording import amount
from learning_signal.viewer.claims import claim_text, mark_lines, quoted, record_text, unsupported
from learning_signal.viewer.comparisons import (
    choice_lines,
    comparison_lines,
    comparison_title,
    is_trial,
    probation_text,
    screen_lines,
    screens_once,
    trial_line,
)
from learning_signal.viewer.events import call_arguments, parsed, verdict_text
from learning_signal.viewer.forecasts import forecast_text
from learning_signal.viewer.reports.explain_brief import render_brief
from learning_signal.viewer.text import (
    MISSING,
    agent_text,
    clean,
    count,
    evaluation_text,
    outcome_text,
    shaping_line,
    shorten,
    styled,
)

WHOLE = 4_000
"""Characters of an agent's words: no tool takes longer ones, so nothing that was said is cut."""
UNKNOWN = "?"
"""In place of what nobody counted."""


def render_decision(chain: DecisionChain, brief: bool = False) -> Group:
    """Why a decision was taken, in the order in which it came about, for a terminal of 100 columns; nothing is cut.

    ``brief`` is what fits on one screen: what fails, what was tried, what came of it.
    """
    if brief:
        return render_brief(chain, _headline(chain))
    decision = chain.decision
    parts: list[RenderableType] = [_headline(chain)]
    if chain.need is not None:
        parts += _section("Why a round now", [Text(clean(chain.need.title))])
    parts += _section("What went wrong with agents", [Text(clean(each.title), "red") for each in chain.troubles])
    parts += _section("Diagnosis", _diagnosis(chain))
    parts += _section("Proposals", _candidates(chain.candidates, chain.claims))
    screens = [each for each in chain.comparisons if each.purpose == "screen"]
    parts += _section("Asked from outside", [styled(each.title) for each in chain.requests])
    parts += _section("Screen", [part for each in screens_once(screens) for part in screen_lines(*each)])
    if any(is_trial(each) for each in chain.comparisons):
        parts += _section("Chosen to be confirmed", choice_lines(chain.choices, bool(screens)))
    about = chain.comparison and chain.comparison.id
    trials = [each for each in chain.comparisons if is_trial(each) and each.id != about]
    parts += _section("Earlier confirmations", [trial_line(each) for each in trials])
    told = {each.id for each in trials}
    earlier = [each for each in chain.verdicts if chain.verdict is None or each.id != chain.verdict.id]
    untold = [_verdict_line(each, chain.candidates) for each in earlier if each.comparison_id not in told]
    parts += _section("Earlier verdicts", untold)
    if chain.comparison is not None:
        parts += _section(comparison_title(chain.comparison), comparison_lines(chain.comparison))
    if chain.verdict is not None:
        parts += _section("Verdict", _verdict(chain.verdict, chain.comparison is not None, chain.claims))
    parts += _section("Asked by the Coordinator", [line for each in chain.questions for line in _question(each)])
    parts += _section("Decision", _decision(decision, chain.approvals, chain.claims))
    parts += _section("What would have made it another", [record_text(each) for each in chain.otherwise])
    parts += _section("Refused on the way", [_refusal(each) for each in chain.refusals])
    parts += _section("Other words that the record does not support", _other_marks(chain))
    parts += _section("What shadows would have done", [_shadow(each) for each in chain.shadows])
    parts += _section("Cost", [*_cost(chain.branches, chain.late), *_models(chain.cost)])
    parts += _section("Afterwards", _afterwards(chain))
    return Group(*parts)


def _section(title: str, lines: Sequence[RenderableType]) -> list[RenderableType]:
    return [Text(title, "bold underline"), Padding(Group(*lines), (0, 0, 0, 2), expand=False)] if lines else []


def _cost(branches: Sequence[BranchRow], late: Sequence[SegmentRow]) -> list[RenderableType]:
    """Env steps of the round's branches, late evaluations included; a segment that two share is counted once."""
    used = {each.segment.id: each.segment for branch in branches for each in branch.segments}.values()
    if not used:
        return []
    played = [each.evaluation_env_steps for each in (*used, *late)]
    known = [each for each in played if each is not None]
    words = evaluation_text(sum(known) if known else None)
    unknown = f" (that of {len(played) - len(known)} is unknown)" if known and len(known) < len(played) else ""
    trained = count(sum(each.cost for each in used))
    return [Text(f"{trained} env steps of training in {len(used)} branch segments, {words}{unknown}")]


def _models(cost: RoundCost | None) -> list[RenderableType]:
    """What the models of the round used, and how long it took."""
    if cost is None or not cost.calls:
        return []
    tokens = [
        f"{UNKNOWN if each is None else count(each)} {way}"
        for each, way in ((cost.tokens_in, "in"), (cost.tokens_out, "out"))
    ]
    price = UNKNOWN if cost.usd is None else amount("usd", cost.usd)
    took = UNKNOWN if cost.seconds is None else amount("time", cost.seconds)
    calls = f"{cost.calls} model call{'s' if cost.calls != 1 else ''}"
    return [Text(f"{calls}, tokens {' and '.join(tokens)}, {price}; the round took {took}")]


def _question(row: QuestionRow) -> list[RenderableType]:
    asked = Text.assemble(agent_text(row.asker), " asked the ", agent_text(row.asked), ": ", quoted(row.question))
    if row.answer is None:
        return [asked.append("  not answered", "yellow")]
    return [asked, claim_text(row.asked, row.answer)]


def _refusal(row: RefusedRow) -> Text:
    return Text.assemble(
        agent_text(row.agent),
        f" called {clean(row.tool)}: ",
        (clean(row.sentence), "red"),
        (f"  #{row.event_seq}", "dim"),
    )


def _shadow(event: EventRow) -> Text:
    """What one said in a turn, of which nothing was acted on."""
    style = "" if event.title.startswith("agrees") else "yellow"
    return Text.assemble(agent_text(event.agent), " ", (clean(event.title), style))


def _headline(chain: DecisionChain) -> Text:
    decision = chain.decision
    line = Text.assemble(
        ("Round ", "bold"), (str(decision.round), "bold"), " of session ", styled(decision.session_id), ": "
    )
    line.append_text(outcome_text(decision.action))
    if chain.candidate is not None and decision.action == "promote":
        line.append(f" {clean(chain.candidate.name)}", "bold")
    return line


def _diagnosis(chain: DecisionChain) -> list[RenderableType]:
    diagnosis, claims = chain.diagnosis, chain.claims
    if diagnosis is None:
        opened = "" if chain.need is None else chain.need.title
        judges = re.match(r"round [0-9]+: regression: ", opened)
        why = "this round was opened to judge an earlier promotion" if judges else "the Critic submitted no diagnosis"
        return [Text(f"none: {why}", "dim")]
    if not diagnosis.body.get("failures"):  # code wrote why there is none
        return [Text(clean(str(diagnosis.body.get("advice", MISSING))), "dim")]
    computed = next((each.known.get("stage") for each in claims if each.about == "diagnoses"), None)
    record = Text.assemble(record_text(f"the computed stage is {computed}"), "; ") if computed else Text()
    stage = Text.assemble(("claim by ", "dim"), agent_text("critic"), ": diagnosis: ", (clean(diagnosis.stage), "bold"))
    lines: list[RenderableType] = [Text.assemble(record, stage)]
    cited = {each.evidence_id: each for each in diagnosis.evidence}
    for failure in diagnosis.body.get("failures", ()):
        lines += _failure(failure, cited)
    if diagnosis.body.get("advice"):
        lines.append(Text.assemble(("advice: ", "dim"), quoted(str(diagnosis.body["advice"]))))
    lines += mark_lines(claims, "diagnoses", diagnosis.id)
    return lines + [_evidence(each) for each in diagnosis.evidence]


def _failure(failure: Mapping[str, Any], cited: Mapping[str, EvidenceRow]) -> list[RenderableType]:
    """What fails, in the Critic's words, and below it where the evidence it cites has its numbers."""
    words, names = str(failure.get("description", MISSING)), [str(each) for each in failure.get("evidence", ())]
    lines: list[RenderableType] = [Text.assemble("- ", quoted(words), (f" [{clean(', '.join(names))}]", "dim"))]
    for name in names:
        row = cited.get(name)
        found = [] if row is None else cited_numbers(words, row.result)
        if found:
            places = "; ".join(f"{each.said} is {each.path} {each.value:.6g}" for each in found)
            lines.append(Padding(Text(f"{clean(name)}: {clean(places)}", "dim"), (0, 0, 0, 4), expand=False))
    return lines


def _evidence(row: EvidenceRow) -> Text:
    line = Text.assemble((clean(row.evidence_id), "bold"), " ")
    if row.tool is None:
        return line.append("was cited, but no tool result of this session has this id", "red")
    arguments = call_arguments(parsed(row.arguments), WHOLE)
    where = "" if row.event_seq is None else f": log show {row.event_seq} opens it"
    return line.append(f"{clean(row.tool)}({arguments}){where}", "dim")


def _candidates(candidates: Sequence[CandidateRow], claims: Sequence[ClaimRow]) -> list[RenderableType]:
    if not candidates:
        return []
    table = Table.grid(padding=(0, 1))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(ratio=1)
    for candidate in candidates:
        words = Text(shaping_line(candidate.shaping))
        words.append(f"  {forecast_text(candidate)}", "dim")
        if candidate.changes:
            words.append(f"\nchanges: {clean('; '.join(candidate.changes))}", "bold")
        if candidate.source is not None:
            words.append(f"\nproposed from outside, by {clean(candidate.source)}", "bold")
        words.append("\n").append_text(quoted(shorten(candidate.rationale, WHOLE)))
        for remark in candidate.remarks:
            words.append(f"\nremark of code: {clean(remark)}", "yellow")
        if candidate.remarks:
            words.append("\nanswered: ").append_text(quoted(shorten(candidate.answer or MISSING, WHOLE)))
        for line in mark_lines(claims, "proposals", candidate.proposal_id, f"rationale of {candidate.name}"):
            words.append("\n").append_text(line)
        table.add_row(styled(candidate.name, "bold"), outcome_text(candidate.fate), words)
    return [table]


def _verdict_line(verdict: VerdictRow, candidates: Sequence[CandidateRow]) -> Text:
    name = next((candidate.name for candidate in candidates if candidate.id == verdict.candidate_id), "no candidate")
    return Text.assemble((clean(name), "bold"), ": ", verdict_text(verdict.outcome, verdict.reason))


def _verdict(verdict: VerdictRow, numbers_shown: bool, claims: Sequence[ClaimRow]) -> list[RenderableType]:
    said, reason = f"{verdict.outcome} on {str(verdict.measure).replace('_', ' ')}", verdict.reason
    # The numbers stand above, in the statistics: they are not repeated.
    short = reason.partition(": ")[0] if numbers_shown and reason.startswith(said) else reason
    lines: list[RenderableType] = [record_text(verdict_text(verdict.outcome, short))]
    if verdict.reading:
        lines.append(claim_text("validator", verdict.reading))
    return lines + mark_lines(claims, "verdicts", verdict.id)


def _decision(decision: DecisionRow, approvals: Sequence[EventRow], claims: Sequence[ClaimRow]) -> list[RenderableType]:
    by_code = decision.decided_by == "code"
    taken = Text.assemble(outcome_text(decision.action), f": {clean(decision.reason)}" if by_code else "")
    lines: list[RenderableType] = [record_text(taken)]
    if not by_code:
        lines.append(claim_text(decision.decided_by, decision.reason))
    lines += mark_lines(claims, "decisions", decision.id)
    lines += [Text.assemble(agent_text("human"), f" {clean(each.title)}") for each in approvals]
    if decision.shaping_from == decision.shaping_to:
        lines.append(Text(f"shaping stays: {shaping_line(decision.shaping_to)}"))
    else:
        lines.append(Text(f"shaping from: {shaping_line(decision.shaping_from)}", "dim"))
        lines.append(Text(f"shaping to:   {shaping_line(decision.shaping_to)}"))
    after = f", after {clean(decision.previous_hash)[:12]}" if decision.previous_hash else ", the first of its session"
    lines.append(Text(f"hash {clean(decision.hash)[:12]}{after}", "dim"))
    return lines


def _other_marks(chain: DecisionChain) -> list[RenderableType]:
    """Marks of claims that stand in no section above: of earlier verdicts, and of what the round was sent back for."""
    told = {chain.decision.id, chain.verdict.id if chain.verdict else ""}
    lines: list[RenderableType] = []
    for each in chain.claims:
        if each.about not in ("diagnoses", "proposals") and each.row_id not in told and each.marks:
            said = " ".join(str(text) for field, text in each.words.items() if field != "promotes")
            lines += [
                claim_text(each.agent, shorten(said, WHOLE)),
                *(unsupported(one["problem"]) for one in each.marks),
            ]
    return lines


def _afterwards(chain: DecisionChain) -> list[RenderableType]:
    lines: list[RenderableType] = []
    if chain.probation is not None:
        lines.append(Text.assemble("probation ", probation_text(chain.probation)))
    elif chain.decision.action == "promote":
        lines.append(Text("probation has not been judged", "dim"))
    if chain.rolled_back_by is not None:
        taken_back = chain.rolled_back_by
        lines.append(record_text(Text(f"rolled back in round {taken_back.round}", "red")))
        lines.append(claim_text(taken_back.decided_by, taken_back.reason))
    return lines
