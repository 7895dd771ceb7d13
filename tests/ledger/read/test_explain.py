"""Why a decision was taken, by any of its names."""

from __future__ import annotations

import pytest

from learning_signal.ledger.canonical import BodyHash
from learning_signal.ledger.errors import LedgerError
from learning_signal.ledger.read.explain import cited_evidence, explain
from learning_signal.ledger.read.reader import Reader
from learning_signal.ledger.read.verify import verify
from learning_signal.ledger.write.writer import Ledger
from tests.support.ledger_samples import SAMPLE_ID


def test_explain_follows_a_promotion_from_evidence_to_probation(sample: Reader) -> None:
    chain = explain(sample, f"{SAMPLE_ID}/R1")
    assert chain.decision.action == "promote" and chain.decision.shaping_to["terms"][0]["weight"] == -1.0
    assert chain.diagnosis.stage == "exploring"
    assert [each.tool for each in chain.diagnosis.evidence] == ["query_metrics", "summarize_trajectories"]
    assert "idleness" in chain.diagnosis.evidence[1].result
    fates = {each.name: each.fate for each in chain.candidates}
    assert fates == {"c1": "promoted", "c2": "screened out", "c3": "branch failed"}
    assert chain.candidate.name == "c1"
    assert next(each.detail for each in chain.candidates if each.name == "c3") == "the worker died (signal 9)"
    assert chain.verdict.outcome == "pass" and chain.comparison.result["p"] == 1 / 32
    confirm = {each.arm: each for each in chain.branches if each.purpose == "confirm"}
    differences = [
        ours.progress - base.progress
        for ours, base in zip(confirm["c1"].segments, confirm["control"].segments, strict=True)
    ]
    assert differences == pytest.approx(chain.comparison.result["differences"])
    broken = next(each for each in chain.branches if each.arm == "c3").segments[0]
    assert (broken.segment.status, broken.sparse_return, broken.progress) == ("error", None, None)
    assert [event.agent for event in chain.approvals] == ["human"]
    assert chain.probation.result["outcome"] == "held" and chain.rolled_back_by is None


@pytest.mark.parametrize("name", ["latest", "R2", "2", SAMPLE_ID, f"{SAMPLE_ID}/2", "20261122/R2", f"{SAMPLE_ID}/R2"])
def test_a_decision_has_many_names(sample: Reader, name: str) -> None:
    chain = explain(sample, name)
    assert (chain.decision.number, chain.decision.action) == (2, "keep")
    assert [each.fate for each in chain.candidates] == ["failed"]
    assert chain.probation is None


@pytest.mark.parametrize("name", ["R9", f"{SAMPLE_ID}/R9", f"{SAMPLE_ID}/nonsense"])
def test_an_unknown_decision_names_the_nearest(sample: Reader, name: str) -> None:
    with pytest.raises(LedgerError, match=f"no decision .*nearest are .*{SAMPLE_ID}/R"):
        explain(sample, name)


def test_explain_before_any_decision(ledger: Ledger, session: str) -> None:
    with Reader.open(ledger.path) as reader, pytest.raises(LedgerError, match="has made no decision yet"):
        explain(reader, "latest")


def test_a_roll_back_shows_on_the_promotion_it_took_back(written: Ledger) -> None:
    promoted = written.rows("SELECT * FROM decisions WHERE number = 1")[0]
    seq = written.event(SAMPLE_ID, "decision", "roll back c1", round=3)
    written.add_decision(
        SAMPLE_ID,
        id=f"{SAMPLE_ID}/R3",
        round=3,
        event_seq=seq,
        action="roll_back",
        comparison_id=f"{SAMPLE_ID}/C3",
        segment_from="s2",
        segment_to="s0",
        shaping_from=BodyHash(promoted["shaping_to"]),
        shaping_to=BodyHash(promoted["shaping_from"]),
        decided_by="code",
        reason="worse than before",
    )
    with Reader.open(written.path) as reader:
        assert explain(reader, "1").rolled_back_by.number == 3
        assert explain(reader, "3").comparison.purpose == "probation"
        assert verify(reader) == []


def test_evidence_is_found_anywhere_in_a_diagnosis() -> None:
    body = {"failures": [{"evidence": ["E1", "E12"]}, {"evidence": ["E1"]}], "advice": "E3 shows Eve", "x": "E4"}
    assert cited_evidence(body) == ["E1", "E12", "E4"]
