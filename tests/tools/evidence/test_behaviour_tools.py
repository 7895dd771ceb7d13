"""Behaviour evidence as the agents get it: parts, episodes, branches against the control, other rounds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from learning_signal.marl.segments.records import BehaviourRecord
from learning_signal.tools.base import ToolRefused
from learning_signal.tools.plan.settings import DeliberationSettings
from learning_signal.tools.toolbox import TOOL_NAMES, toolbox
from tests.support.scripted_session import PAIRED, SETTINGS, ScriptedSession
from tests.support.trainer_double import by_arm, drifting_behaviour

GOOD, OTHER = "coverage_distance", "collisions"


@pytest.fixture
def session(tmp_path: Path) -> Iterator[ScriptedSession]:
    with ScriptedSession(tmp_path, by_arm({"c1": 0.03, "c2": 0.02})) as session:
        yield session


@pytest.fixture
def paired(tmp_path: Path) -> Iterator[ScriptedSession]:
    """Two seeds in the screen."""
    with ScriptedSession(tmp_path, by_arm({"c1": [0.02, 0.10]}), settings=PAIRED) as session:
        yield session


def nearer(by: float, action: int | None = None) -> BehaviourRecord:
    """The double's behaviour with a smaller coverage distance, and with one action alone where that is given."""
    record = drifting_behaviour()
    features = record.features | {GOOD: record.features[GOOD] - np.float32(by)}
    actions = record.actions if action is None else np.full_like(record.actions, action)
    return replace(record, features=features, actions=actions)


def segments(session: ScriptedSession, arm: str) -> tuple[str, ...]:
    return next(each.segments for each in session.context.round.branches if each.arm == arm)


def tell(session: ScriptedSession, told: dict[str, BehaviourRecord]) -> None:
    """Give single segments a behaviour of their own."""
    session.context.trainer.store.told.update(told)


# parts ----------------------------------------------------------------------------------------


def test_parts_come_by_name_and_the_default_names_those_it_leaves_out(session: ScriptedSession) -> None:
    whole = session.call("summarize_trajectories")["summary"]
    assert "episodes" in whole["left_out"]["parts"] and "episodes_shown" not in whole
    part = session.call("summarize_trajectories", parts=["episodes"])["summary"]
    assert [each["rank"] for each in part["episodes_shown"]] == ["best", "median", "worst"] and "features" not in part
    assert list(session.call("summarize_trajectories", parts=["overview"])["summary"])[0] == "task"


def test_single_parts_do_not_replace_the_rounds_evidence(session: ScriptedSession) -> None:
    session.call("summarize_trajectories", parts=["action_use"])
    first = json.loads(session.context.round.evidence_summary)
    assert {"task", "features", "actions"} <= set(first), "a part alone leaves the default behind"
    whole = session.call("summarize_trajectories", most_tokens=1200)["summary"]
    session.call("summarize_trajectories", parts=["outcome"])
    assert json.loads(session.context.round.evidence_summary) == whole


def test_an_unknown_part_is_refused_with_the_known_ones(session: ScriptedSession) -> None:
    with pytest.raises(ToolRefused, match=r"part.*action_use"):
        session.call("summarize_trajectories", parts=["action use given features"])


def test_the_control_is_no_part_of_the_main_run(session: ScriptedSession) -> None:
    with pytest.raises(ToolRefused, match="Found part 'against' of main, expected a candidate"):
        session.call("summarize_trajectories", parts=["against"])


# episodes -------------------------------------------------------------------------------------


def test_an_episode_is_shown_by_rank_or_by_number(session: ScriptedSession) -> None:
    best = session.call("show_episode")
    assert (best["source"], best["which"], best["evidence"]) == ("main", "best", "E1")
    assert best["episode"] == int(np.argmax(drifting_behaviour().progress_means))
    assert best["lines"][0].startswith("t 0, start: coverage_distance ") and "t 25, end: " in best["lines"][-1]
    assert session.call("show_episode", which="worst")["episode"] != best["episode"]
    third = session.call("show_episode", episode=3, which="worst")
    assert third["episode"] == 3 and "which" not in third
    text = json.dumps(third)
    assert session.context.count_tokens(text) <= SETTINGS.deliberation.evidence_tokens + 20


def test_an_episode_that_is_not_there_is_refused(session: ScriptedSession) -> None:
    with pytest.raises(ToolRefused, match=r"Found no reward in any of \d+ episodes: ask for the best"):
        session.call("show_episode", which="rewarded")
    with pytest.raises(ToolRefused, match=r"Found episode 5000, expected one from 0 to \d+"):
        session.call("show_episode", episode=5000)


# against the control --------------------------------------------------------------------------


def test_a_branch_is_shown_against_the_control_of_the_same_purpose(paired: ScriptedSession) -> None:
    paired.propose(GOOD, OTHER)
    paired.screen()
    one, two = segments(paired, "c1")
    tell(paired, {one: nearer(1.0, action=3), two: nearer(2.0, action=3)})
    branch = next(each.name for each in paired.context.round.branches if each.arm == "c1")
    answer = paired.call("summarize_trajectories", source=branch)
    found = answer["summary"]["against"]
    control = float(np.nanmean(drifting_behaviour().features[GOOD]))
    assert answer["seed"] == "1 of 2" and found["seeds"] == [2, 2]
    assert found["features"] == {GOOD: pytest.approx([control - 1.5, control], rel=0.01)}
    assert set(found["features_alike"]) == {each.name for each in paired.context.task.features} - {GOOD}
    assert found["actions"]["down"] == pytest.approx([1.0, 0.2], abs=0.1)
    assert GOOD in found["seeds_do_not_overlap_in"] and "sparse_return" not in found["seeds_do_not_overlap_in"]
    assert found["outcomes"]["sparse_return"] == [0.0, 0.0]
    assert set(answer["summary"]["left_out"]["parts"]) >= {"features", "outcome", "episodes"}
    # Negative control: a candidate that does what the control does.
    other = next(each.name for each in paired.context.round.branches if each.arm == "c2")
    alike = paired.call("summarize_trajectories", source=other, parts=["against"])["summary"]["against"]
    assert "features" not in alike and "actions" not in alike and alike["seeds_do_not_overlap_in"] == []


def test_one_seed_says_that_the_noise_of_training_is_unknown(session: ScriptedSession) -> None:
    session.propose(GOOD, OTHER)
    session.screen()
    found = session.call("summarize_trajectories", source="R1/c1", parts=["against"])["summary"]
    assert list(found) == ["against"] and "noise of training is not known" in found["against"]["note"]
    control = next(each.name for each in session.context.round.branches if each.arm == "control")
    assert "against" not in session.call("summarize_trajectories", source=control)["summary"]
    with pytest.raises(ToolRefused, match="Found part 'against' of B1, expected a candidate"):
        session.call("summarize_trajectories", source=control, parts=["against"])


# candidates of other rounds -------------------------------------------------------------------


def tried(session: ScriptedSession) -> None:
    """A first round with a screen of two and a judged confirmation of c1, and a second round."""
    session.judged(GOOD, OTHER)
    session.call("keep", reason="The first round ends.")
    session.open_round()


def test_what_the_last_round_tried_is_there_in_the_next_one(session: ScriptedSession) -> None:
    session.propose(GOOD, OTHER)
    session.screen()
    screened, confirmed = segments(session, "c2"), None
    session.confirm("c1")
    confirmed = next(e.segments for e in session.context.round.branches if (e.arm, e.purpose) == ("c1", "confirm"))
    tell(session, dict.fromkeys(confirmed, nearer(1.0)) | dict.fromkeys(screened, nearer(-1.0)))
    before = [session.call("summarize_trajectories", source=f"R1/{name}") for name in ("c1", "c2")]
    session.validate("c1", session.context.round.confirmations[-1].outcome)
    session.call("keep", reason="The first round ends.")
    session.open_round()
    after = [session.call("summarize_trajectories", source=f"R1/{name}") for name in ("c1", "c2")]
    assert [each["summary"] for each in after] == [each["summary"] for each in before]
    nearer_one, farther_one = (each["summary"]["against"]["features"][GOOD] for each in after)
    assert nearer_one[0] < nearer_one[1] and farther_one[0] > farther_one[1]
    assert session.call("show_episode", source="R1/c1")["source"] == "R1/c1"
    assert session.context.round.evidence_summary is None, "what was tried is no evidence on HEAD"


def test_a_candidate_that_nobody_tried_is_refused(session: ScriptedSession) -> None:
    tried(session)
    for source in ("R1/c9", "R7/c1", "R2/c1"):
        with pytest.raises(ToolRefused, match=f"Found no branch of {source[3:]} in round {source[1]}, expected"):
            session.call("summarize_trajectories", source=source)


def test_a_confirmation_that_was_never_judged_stays_sealed(session: ScriptedSession) -> None:
    session.propose(GOOD)
    for arm in ("control", "c1"):
        session.call("launch_branch", arm=arm, purpose="confirm")
    for name in ("summarize_trajectories", "show_episode"):
        with pytest.raises(ToolRefused, match="Found R1/c1, a branch of a confirmation that is not judged yet"):
            session.call(name, source="R1/c1")
    session.open_round()
    with pytest.raises(ToolRefused, match="Found R1/c1, a branch of a confirmation that is not judged yet"):
        session.call("summarize_trajectories", source="R1/c1")


# who has them ---------------------------------------------------------------------------------


def test_three_roles_look_at_behaviour_unless_the_session_has_none(tmp_path: Path) -> None:
    both = {"summarize_trajectories", "show_episode"}
    assert [role for role, names in TOOL_NAMES.items() if both <= set(names)] == ["critic", "generator"]
    assert "summarize_trajectories" in TOOL_NAMES["validator"]

    def offered(**changes: Any) -> set[str]:
        settings = SETTINGS.model_copy(update={"deliberation": DeliberationSettings(**changes)})
        folder = tmp_path / str(changes)
        folder.mkdir()
        with ScriptedSession(folder, by_arm({}), settings=settings) as session:
            return {tool.name for role in TOOL_NAMES for tool in toolbox(session.context, role)}

    assert both <= offered() and not both & offered(behaviour=False)
