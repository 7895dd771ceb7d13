"""Why a decision was taken, by any of its names."""

from __future__ import annotations

import pytest

from learning_signal.ledger.errors import LedgerError
from learning_signal.ledger.read.decision.explain import cited_evidence, explain
from learning_signal.ledger.read.reader import Reader
from learning_signal.ledger.write.writer import Ledger
from tests.support.ledger_helpers import tamper
from tests.support.recorded_ledger import RECORDED_ID


def test_explain_follows_a_promotion_from_evidence_to_probation(recorded: Reader) -> None:
    chain = explain(recorded, f"{RECORDED_ID}/R1")
    assert chain.decision.action == "promote" and chain.decision.decided_by == "human"
    assert chain.decision.shaping_to == chain.candidate.shaping and chain.decision.shaping_to["terms"]
    assert chain.diagnosis.stage == "exploring"
    assert [each.tool for each in chain.diagnosis.evidence] == ["query_metrics", "summarize_trajectories"]
    assert '"episodes":8' in chain.diagnosis.evidence[1].result
    fates = {each.name: each.fate for each in chain.candidates}
    assert fates == {"c1": "promoted", "c2": "screened out", "c3": "screened out"}
    assert chain.candidate.name == "c1"
    lost = next(each.detail for each in chain.candidates if each.name == "c3")
    assert lost == "has no sparse return for seed 1 of 1 (The worker died (signal 9, SIGKILL).)"
    assert chain.verdict.outcome == "pass" and chain.comparison.result["wins"] == 16
    assert chain.comparison.result["p"] == pytest.approx(1 / 70)  # one of the orders of four branches of each arm
    confirm = {each.arm: each for each in chain.branches if each.purpose == "confirm"}
    ours, theirs = ([each.progress for each in confirm[arm].segments] for arm in ("c1", "control"))
    assert len(ours) == len(theirs) == 4
    assert (sum(ours) - sum(theirs)) / 4 == pytest.approx(chain.comparison.result["mean_difference"])
    assert [(each.agent, each.title) for each in chain.choices] == [("validator", "B6: confirm c1 on 1 seed")]
    broken = next(each for each in chain.branches if each.arm == "c3").segments[0]
    assert (broken.segment.status, broken.sparse_return, broken.progress) == ("error", None, None)
    assert [(event.agent, event.title) for event in chain.approvals] == [("human", "approved by a person: worth a try")]
    assert chain.need.title.startswith("round 1: first: no round has run yet")
    assert chain.probation.result["outcome"] == "held" and chain.rolled_back_by is None


@pytest.mark.parametrize("name", ["R2", "2", f"{RECORDED_ID}/2", "20261122/R2", f"{RECORDED_ID}/R2"])
def test_a_decision_has_many_names(recorded: Reader, name: str) -> None:
    chain = explain(recorded, name)
    assert (chain.decision.number, chain.decision.action) == (2, "keep")
    assert [each.fate for each in chain.candidates if each.fate != "screened out"] == ["failed", "inconclusive"]
    assert [each.outcome for each in chain.verdicts] == ["fail", "inconclusive"] and chain.verdict == chain.verdicts[1]
    assert chain.probation is None


@pytest.mark.parametrize("name", ["latest", "R4", "4", RECORDED_ID, "20261122"])
def test_the_last_decision_has_the_names_of_its_session_too(recorded: Reader, name: str) -> None:
    chain = explain(recorded, name)
    assert (chain.decision.number, chain.decision.action) == (4, "roll_back")
    assert chain.candidates == chain.branches == [] and chain.diagnosis is None and chain.verdict is None


@pytest.mark.parametrize("name", ["R9", f"{RECORDED_ID}/R9", f"{RECORDED_ID}/nonsense"])
def test_an_unknown_decision_names_the_nearest(recorded: Reader, name: str) -> None:
    with pytest.raises(LedgerError, match=f"no decision .*nearest are .*{RECORDED_ID}/R"):
        explain(recorded, name)


def test_explain_before_any_decision(ledger: Ledger, session: str) -> None:
    with Reader.open(ledger.path) as reader, pytest.raises(LedgerError, match="has made no decision yet"):
        explain(reader, "latest")


def test_a_roll_back_shows_on_the_promotion_it_took_back(recorded: Reader) -> None:
    promotion, undoing = explain(recorded, "3"), explain(recorded, "4")
    assert promotion.rolled_back_by == undoing.decision
    assert undoing.comparison == promotion.probation and undoing.comparison.purpose == "probation"
    assert undoing.comparison.result["outcome"] == "regressed"
    assert [each.fate for each in promotion.candidates] == ["rolled back", "screened out", "screened out"]
    assert explain(recorded, "1").rolled_back_by is None  # negative control: the promotion before it held


def test_candidates_of_a_round_that_is_not_over_have_a_fate_as_well(written: Ledger) -> None:
    """Nothing is stored of what became of them: it follows from what is."""
    written.close()
    tamper(written.path, "DELETE FROM fates")
    with Reader.open(written.path) as reader:
        fates = {each.name: (each.fate, each.detail) for each in explain(reader, "R1").candidates}
    assert {name: fate for name, (fate, _) in fates.items()} == (
        {"c1": "promoted", "c2": "screened out", "c3": "branch failed"}
    )
    assert fates["c3"][1] == "The worker died (signal 9, SIGKILL)."


def test_evidence_is_found_anywhere_in_a_diagnosis() -> None:
    body = {"failures": [{"evidence": ["E1", "E12"]}, {"evidence": ["E1"]}], "advice": "E3 shows Eve", "x": "E4"}
    assert cited_evidence(body) == ["E1", "E12", "E4"]
