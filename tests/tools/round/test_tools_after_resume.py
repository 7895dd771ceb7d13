"""What the tools know after a stop: branches of earlier refinements and failures; and absurd arguments."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from learning_signal.tools.base import ToolRefused
from tests.support.scripted_session import ScriptedSession, draft
from tests.support.trainer_double import Launched, by_arm

GOOD, OTHER, THIRD = "coverage_distance", "collisions", "worst_coverage_distance"
DIED = "The worker died (signal 9, SIGKILL)."


def test_branches_of_an_earlier_refinement_are_read_again(tmp_path: Path) -> None:
    with ScriptedSession(tmp_path, by_arm({"c1": 0.0, "c3": 0.03})) as session:
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
        assert session.call("compare_branches", purpose="screen")["ranking"] == ranking
        session.validate("c3", session.confirm("c3")["outcome"])
        reasons = [each.reason for each in session.context.state.tried if each.outcome == "screened out"]
        assert len(reasons) == 2 and all(reason.startswith("behind c3 in the screen") for reason in reasons)


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("submit_proposal", {"candidates": [draft(GOOD, anneal_steps=10**30)]}),
        ("query_metrics", {"names": ["entropy"], "last_env_step": 10**400}),
    ],
)
def test_absurd_numbers_are_refused_by_their_bounds(tmp_path: Path, tool: str, arguments: dict) -> None:
    with ScriptedSession(tmp_path, by_arm({})) as session:
        with pytest.raises(ValidationError, match="less than or equal to 1000000000000"):
            session.call(tool, **arguments)
