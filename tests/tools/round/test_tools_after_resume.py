"""What the tools know after a stop: branches of earlier refinements and failures; and absurd arguments."""

from __future__ import annotations

from pathlib import Path

import pytest

from learning_signal.tools.base import ToolRefused
from tests.support.scripted_session import ScriptedSession, draft
from tests.support.trainer_double import Launched, by_arm

GOOD, OTHER, THIRD = "coverage_distance", "collisions", "worst_coverage_distance"
DIED = "The worker died (signal 9, SIGKILL)."


def test_branches_of_an_earlier_refinement_are_read_again(tmp_path: Path) -> None:
    with ScriptedSession(tmp_path, by_arm({("screen", "c1"): 0.01, "c3": 0.03})) as session:
        session.judged(GOOD, OTHER)
        branches = [each.name for each in session.context.round.branches]
        before = [session.call("read_branch", branch=name) for name in branches]
        session.refine()
        session.propose(THIRD)
        computed = list(session.pool.computed)
        session.resume()
        assert [session.call("read_branch", branch=name) for name in branches] == before
        assert session.pool.computed == computed  # nothing else was trained


def test_a_failed_branch_is_failed_before_it_is_read_again(tmp_path: Path) -> None:
    def score(launched: Launched) -> tuple[float, float] | str:
        return DIED if launched.arm == "c1" else (0.0, 0.04)

    with ScriptedSession(tmp_path, score) as session:
        session.propose(GOOD, OTHER)
        session.screen()
        (name,) = (each.name for each in session.context.round.branches if each.arm == "c1")
        session.resume()
        with pytest.raises(ToolRefused, match=f"Found branch {name} failed"):
            session.call("query_metrics", names=["entropy"], source=name)


def test_the_ranking_of_a_screen_outlives_a_stop(tmp_path: Path) -> None:
    with ScriptedSession(tmp_path, by_arm({"c1": 0.01, "c2": 0.02, "c3": 0.04})) as session:
        session.propose(GOOD, OTHER, THIRD)
        ranking = session.screen()["ranking"]
        assert [each["candidate"] for each in ranking] == ["c3", "c2", "c1"]
        session.resume()
        assert session.screen()["ranking"] == ranking
        session.validate("c3", session.confirm("c3")["outcome"])
        reasons = [each.reason for each in session.context.state.tried if each.outcome == "screened out"]
        assert len(reasons) == 2 and all(reason.startswith("behind c3 in the screen") for reason in reasons)


@pytest.mark.parametrize(("said", "kept"), [("Bearer abc123def456", "Bearer [redacted]"), ("a bearer of food",) * 2])
def test_what_looks_like_a_key_is_left_out_of_memory_too(tmp_path: Path, said: str, kept: str) -> None:
    """A resume reads the rows, which have lost it, and goes on with the texts that the session had."""
    with ScriptedSession(tmp_path, by_arm({"c1": 0.03})) as session:
        evidence = session.call("query_metrics", names=["entropy"])["evidence"]
        failure = {"description": f"{said} is all they say.", "evidence": [evidence]}
        session.call("submit_diagnosis", stage="exploring", failures=[failure], advice=said)
        session.call("submit_proposal", candidates=[draft(GOOD, rationale=said)])
        outcome = session.confirm("c1")["outcome"]
        session.call("submit_validation", candidate="c1", outcome=outcome, reading=said)
        session.call("promote", candidate="c1", reason=said)
        before = session.context.round
        texts = before.diagnosis.advice, before.candidate("c1").rationale, before.verdicts[0].reading
        assert (*texts, before.decision.reason) == (kept,) * 4
        assert before.diagnosis.failures[0].description == f"{kept} is all they say."
        session.resume()
        assert session.context.round == before


@pytest.mark.parametrize(("length", "fits"), [(1000, False), (990, True)])
def test_a_text_that_is_too_long_without_its_key_is_refused(tmp_path: Path, length: int, fits: bool) -> None:
    with ScriptedSession(tmp_path, by_arm({})) as session:
        evidence = session.call("query_metrics", names=["entropy"])["evidence"]
        failure = {"description": "Bearer abcd1234 ".ljust(length, "."), "evidence": [evidence]}
        given = {"stage": "exploring", "failures": [failure], "advice": "Shape."}
        if fits:
            assert session.call("submit_diagnosis", **given) == {"accepted": True}
        else:
            with pytest.raises(ToolRefused, match="looks like a key in failures 1 description, and its redaction"):
                session.call("submit_diagnosis", **given)
        assert len(session.rows("diagnoses")) == fits
        assert (session.context.round.diagnosis is not None) == fits


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("submit_proposal", {"candidates": [draft(GOOD, anneal_steps=10**30)]}),
        ("query_metrics", {"names": ["entropy"], "last_env_step": 10**400}),
    ],
)
def test_absurd_numbers_are_refused_by_their_bounds(tmp_path: Path, tool: str, arguments: dict) -> None:
    with ScriptedSession(tmp_path, by_arm({})) as session:
        with pytest.raises(ToolRefused, match="must be at most 1000000000000, not"):
            session.call(tool, **arguments)
