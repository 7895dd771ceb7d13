"""What a model in a role could do to the gate, or to itself, by odd orders of calls: each once seen, none possible."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from learning_signal.marl.gate.sequential import design
from learning_signal.marl.gate.settings import GateSettings
from learning_signal.tools.base import ToolRefused
from learning_signal.tools.plan.settings import DeliberationSettings
from learning_signal.tools.round.decisions import allowed_actions, still_confirmable
from learning_signal.tools.round.record import record_verdict
from learning_signal.tools.round.verdicts import unreported, verdict_record
from tests.support.scripted_session import SETTINGS, ScriptedSession
from tests.support.trainer_double import by_arm

WHY = "It moves less."
FAILS: dict[Any, Any] = {"main": [0.0, 0.02], ("screen", "c1"): 0.05, ("confirm", "c1"): -0.03, "c2": 0.03, "c3": 0.02}
REFINED = {"c4": 0.05, "c5": 0.04}


@pytest.fixture
def session(tmp_path: Path) -> Iterator[ScriptedSession]:
    """Three screened candidates, of which the first fails its confirmation; a round has three confirmations."""
    settings = SETTINGS.model_copy(
        update={"deliberation": DeliberationSettings(refinements=2, branch_tools=True), "rounds": 2}
    )
    with ScriptedSession(tmp_path, by_arm(FAILS | REFINED), settings=settings) as session:
        session.propose("coverage_distance", "collisions", "worst_coverage_distance")
        session.screen()
        yield session


def launch(session: ScriptedSession, *arms: str) -> None:
    for arm in arms:
        session.call("launch_branch", arm=arm, purpose="confirm", reason=WHY)


def fail_the_first(session: ScriptedSession) -> None:
    found = session.confirm("c1")
    session.validate("c1", found["outcome"])


def test_a_round_is_sent_back_for_each_candidate_once(session):
    """Also where the Validator does nothing about it: no round is without end."""
    fail_the_first(session)
    for name in ("c2", "c3"):
        assert "send_back" in allowed_actions(session.context)
        session.call("send_back", candidate=name, reason=WHY)
    assert still_confirmable(session.context) == () and "send_back" not in allowed_actions(session.context)


def test_a_screen_stays_as_it_is_once_any_arm_of_a_confirmation_is_launched(session):
    launch(session, "control")
    with pytest.raises(ToolRefused, match="a confirmation begun"):
        session.call("extend_screen", candidates=["c1"], reason=WHY)


def test_a_resume_after_a_screen_that_was_extended_later_knows_what_was_said_before(session):
    """The Validator gives up, the round is sent back, and the screen is given a seed: memory keeps the old fates."""
    verdict = verdict_record(session.context, None, None, None, "No comparison was made.")
    with session.ledger.transaction("give up"):
        record_verdict(session.context, verdict, None)
    session.call("extend_screen", candidates=["c1", "c2"], reason=WHY)
    assert session.recalled().tried == session.context.state.tried


def test_what_was_judged_is_reported_where_the_validator_gives_up(session):
    assert unreported(session.context) is None
    found = session.confirm("c1")
    launch(session, "control", "c2")
    judged = unreported(session.context)
    assert judged is not None and (judged.candidate, judged.outcome) == ("c1", found["outcome"])


def test_the_log_of_a_control_that_a_refinement_takes_over_is_sound(session):
    """The control of the next confirmation is launched, and then the Generator has its turn."""
    found = session.confirm("c1")
    launch(session, "control")
    session.validate("c1", found["outcome"])
    session.refine()
    session.propose("covered_fraction", "spacing")
    session.screen()
    session.confirm("c4")
    assert session.findings() == []


@pytest.mark.parametrize(("looks", "family", "confirmations"), [(4, 0.1, 7), (3, 0.25, 5), (4, 0.2, 14)])
def test_a_share_that_is_just_reached_is_reached_after_rounding_too(looks, family, confirmations):
    gate, spent = GateSettings(looks=looks, family_alpha=family, alpha=0.3), 0.0
    gate.refuse_unreachable(confirmations)
    for place in range(confirmations):
        spent = round(spent + design(gate.level(spent, confirmations - place), looks).size, 12)
    assert spent <= family * (1 + 1e-9)
