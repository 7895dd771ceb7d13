"""What agents are told: the facts of a session once, in the system prompt; what changes, in the brief; in one unit."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from learning_signal.marl.settings import LearnerSettings
from learning_signal.marl.tasks import make_task
from learning_signal.marl.tasks.base import Group
from learning_signal.tools.briefs.brief import brief
from learning_signal.tools.briefs.facts import facts, facts_text, largest_entropy
from learning_signal.tools.roles import ROLES
from tests.support.scripted_session import ScriptedSession
from tests.support.trainer_double import by_arm

SPREAD = make_task("spread", 1).spec
POTENTIAL = "coverage_distance"


@pytest.fixture
def session(tmp_path: Path) -> Iterator[ScriptedSession]:
    with ScriptedSession(tmp_path, by_arm({"c1": 0.03})) as session:
        yield session


@pytest.mark.parametrize("role", ROLES)
def test_the_facts_of_a_session_stand_once_and_stay_the_same(session: ScriptedSession, role: str) -> None:
    before = facts_text(session.context, role)
    assert session.judged(POTENTIAL) == "pass"
    assert facts_text(session.context, role) == before and json.loads(before) == facts(session.context, role)
    told = json.loads(brief(session.context, role).partition("\n")[2])
    assert not set(told) & set(json.loads(before)), "nothing is told twice"
    for said_once in (SPREAD.description, SPREAD.feature(POTENTIAL).description):
        assert said_once not in json.dumps(told)
    assert (SPREAD.description in before) == (role != "validator")


def test_thresholds_are_in_the_units_of_the_task(session: ScriptedSession) -> None:
    gate = session.context.settings.gate
    told = facts(session.context, "critic")["gate"]
    assert (told["floor"], told["delta"]) == (gate.floor * SPREAD.max_return, gate.delta * SPREAD.max_return)
    assert told["floor"] == 0.5 and told["delta_progress"] == gate.delta_progress


def test_learner_and_evaluation_are_told(session: ScriptedSession) -> None:
    told = facts(session.context, "critic")
    assert told["learner"]["algorithm"] == "mappo" and told["learner"]["gamma"] == 0.99
    assert told["learner"]["largest_entropy"] == pytest.approx(math.log(5), abs=1e-3)
    assert "raw" in told["learner"]["potentials_see"]
    assert told["evaluation"]["actions"] == "sampled from the policy"
    assert "entropy" in told["metrics"] and "epsilon" not in told["metrics"]


def test_features_are_a_table_where_features_are_chosen(session: ScriptedSession) -> None:
    for role in ("critic", "generator"):
        table = facts(session.context, role)["features"]
        rows = [dict(zip(table["columns"], row, strict=True)) for row in table["rows"]]
        assert [row["name"] for row in rows] == [feature.name for feature in SPREAD.features]
        assert [row["direction"] for row in rows] == [feature.direction for feature in SPREAD.features]
        assert [row["description"] for row in rows] == [feature.description for feature in SPREAD.features]
    for role in ("validator", "coordinator"):
        assert "features" not in facts(session.context, role)


def test_the_largest_entropy_is_that_of_the_agents_own_actions() -> None:
    mappo, qmix = LearnerSettings(), LearnerSettings(algorithm="qmix")
    assert largest_entropy(mappo, SPREAD) == pytest.approx(math.log(5))
    groups = (Group("x", (0,), 8, 5), Group("y", (1, 2), 8, 1))
    assert largest_entropy(mappo, replace(SPREAD, groups=groups)) == pytest.approx(math.log(5) / 3)
    assert largest_entropy(mappo, replace(SPREAD, continuous=True)) is None
    assert largest_entropy(qmix, SPREAD) is None, "its policy has no entropy that is logged"
