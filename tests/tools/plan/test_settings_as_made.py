"""Stored configurations of an earlier version, read as they were made."""

from __future__ import annotations

import pytest

from learning_signal.tools.plan.settings import SessionSettings, as_made, session_rules


def config(**gate: object) -> dict[str, object]:
    made = SessionSettings(rounds=3).model_dump(mode="json")
    made["gate"] = {**made["gate"], **gate}
    return made


@pytest.mark.parametrize(("shares", "level"), [("equal", 0.05 / 6), ("halves", 0.025)])
def test_the_level_is_that_of_the_stored_shares(shares: str, level: float) -> None:
    assert session_rules(config(shares=shares))["level"](0.0, 1, 0) == pytest.approx(level)


def test_a_session_from_before_there_were_shares_had_equal_ones() -> None:
    old = config()
    del old["gate"]["shares"]
    assert session_rules(old)["level"](0.0, 1, 0) == pytest.approx(0.05 / 6)
    assert "shares" not in session_rules(old)["settings"], "its comparisons name none either"
    assert SessionSettings.model_validate(as_made(old)).gate.shares == "equal"
    assert SessionSettings.model_validate(config()).gate.shares == "halves"


def test_a_branch_from_before_there_was_a_share_had_as_many_episodes_as_every_set() -> None:
    old = config()
    del old["run"]["evaluation"]["share"]
    read = SessionSettings.model_validate(as_made(old))
    assert read.run.evaluation.share is None and read.run.evaluation.episodes == 256
    assert SessionSettings.model_validate(as_made(config())).run.evaluation.share == 0.1


def test_a_training_run_has_no_gate() -> None:
    assert as_made({"run": {}}) == {"run": {}} and session_rules({"run": {}}) == {}
