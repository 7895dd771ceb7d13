"""Verification of confirmations branch by branch: level, order, seeds, end and candidate are checked, not believed."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from learning_signal.ledger.canonical import canonical_json, content_hash
from learning_signal.ledger.read.reader import Reader
from learning_signal.ledger.read.records import Finding
from learning_signal.ledger.read.verify import verify
from learning_signal.marl.gate.recompute import recompute
from learning_signal.marl.gate.settings import GateSettings
from learning_signal.tools.plan.settings import DeliberationSettings, SessionSettings, session_rules
from learning_signal.tools.round.probation import judge_probation
from learning_signal.tools.round.record import record_end_of_round
from tests.support.ledger_helpers import tamper
from tests.support.scripted_session import SESSION, SETTINGS, ScriptedSession
from tests.support.trainer_double import by_arm

EFFECTS = {"main": [0.0, 0.02]} | {("screen", "c1"): 0.05, ("confirm", "c1"): -0.03, "c2": 0.03, "c3": -0.02}
"""c1 leads the screen and fails at the first look, c2 passes at a later one, c3 is worse than the control."""
SCREEN, FAILED, PASSED = "C1", "C2", "C3"


def configured(refinements: int) -> SessionSettings:
    talk = DeliberationSettings(questions=1, refinements=refinements)
    return SETTINGS.model_copy(update={"deliberation": talk})


@pytest.fixture
def session(tmp_path: Path) -> Iterator[ScriptedSession]:
    """A round in which three candidates are screened, and nothing is confirmed yet."""
    with ScriptedSession(tmp_path, by_arm(EFFECTS), settings=configured(refinements=1)) as opened:
        opened.propose("coverage_distance", "collisions", "worst_coverage_distance")
        opened.screen()
        yield opened


@pytest.fixture
def judged(session: ScriptedSession) -> ScriptedSession:
    """The same with both confirmations, reported and decided."""
    assert session.confirm("c1")["outcome"] == "fail"
    assert session.confirm("c2")["outcome"] == "pass"
    session.validate("c2", "pass")
    session.call("promote", candidate="c2", reason="It passed.")
    assert session.findings() == []
    return session


def body(path: Path, comparison: str, column: str) -> tuple[str, Any]:
    """The id of a comparison, and one of its bodies."""
    with Reader.open(path) as reader:
        (row,) = reader.rows(f"SELECT id, {column} body FROM comparisons WHERE id = ?", (f"{SESSION}/{comparison}",))
        return row["id"], reader.json(row["body"])


def forge(path: Path, comparison: str, column: str, change: Callable[[Any], None]) -> None:
    """Exchange a body of a comparison, with its right hash."""
    identity, found = body(path, comparison, column)
    change(found)
    forged = canonical_json(found).replace("'", "''")
    tamper(
        path,
        f"INSERT INTO bodies (hash, body) VALUES ('{content_hash(canonical_json(found))}', '{forged}')",
        f"UPDATE comparisons SET {column} = '{content_hash(canonical_json(found))}' WHERE id = '{identity}'",
    )


def recomputed(path: Path, comparison: str) -> None:
    """Exchange the result for what its inputs give now: the most careful forger."""
    _, inputs = body(path, comparison, "inputs")
    _, settings = body(path, comparison, "settings")
    again = recompute("confirm", inputs | {"arms": without_offers(inputs["arms"])}, settings)
    forge(path, comparison, "result", lambda result: result.update(json.loads(json.dumps(again))))


def without_offers(arms: dict[str, Any]) -> dict[str, Any]:
    return {arm: [dict(seed) for seed in seeds] for arm, seeds in arms.items()}


def problems(found: list[Finding], comparison: str) -> list[str]:
    """What is found of a comparison by its own checks; a forged one is in the chain of decisions too."""
    return [each.problem for each in found if (each.table, each.row) == ("comparisons", f"{SESSION}/{comparison}")]


# by a program that does not keep to the rules: everything it writes fits together -----------------


def test_a_larger_level_than_was_left_is_found(session: ScriptedSession) -> None:
    session.context.state.level_spent = -0.02
    session.confirm("c1")
    (finding,) = session.findings()
    expected = GateSettings().level(0.0, 4)
    assert finding.row == f"{SESSION}/{FAILED}"
    assert finding.problem == f"its level is {(0.05 + 0.02) / 2}, what was left gives {expected}"


def test_a_level_that_was_spent_already_is_found(session: ScriptedSession) -> None:
    session.confirm("c1")
    session.context.state.level_spent = 0.0
    session.confirm("c2")
    (finding,) = session.findings()
    assert finding.row == f"{SESSION}/{PASSED}" and "its level is " in finding.problem


def test_a_level_that_no_promotion_handed_on_is_found(judged: ScriptedSession) -> None:
    """Of the round before, only c1 has spent its level: c2 was promoted."""
    decision = judged.context.round.decision
    assert decision is not None
    with judged.ledger.transaction("close"):
        record_end_of_round(judged.context, decision)
    judged.train_stage()
    with judged.ledger.transaction("probation"):
        assert judge_probation(judged.context) is None
    judged.open_round()
    judged.propose("covered_fraction", "spacing")
    judged.screen()
    judged.confirm("c1")
    assert judged.findings() == []
    judged.ledger.close()
    tamper(judged.ledger.path, "UPDATE decisions SET action = 'keep'")
    (found,) = (each for each in findings(judged.ledger.path) if "its level is" in each.problem)
    assert found.row == f"{SESSION}/C6" and body(judged.ledger.path, "C6", "inputs")[1]["level"] > 0.01


def test_another_order_than_the_screens_is_found(session: ScriptedSession) -> None:
    (screen,) = session.context.round.screens
    assert screen.order is not None
    other = screen.order.model_copy(update={"step": 0.5, "reason": "chosen afterwards"})
    session.context.round.screens = [screen.model_copy(update={"order": other})]
    session.confirm("c1")
    assert [each.problem for each in session.findings()] == ["is ordered otherwise than its screen says"]


def test_more_confirmations_than_a_round_may_make_are_found(tmp_path: Path) -> None:
    """The session was configured with one for each round; the program made two."""
    effects = {("screen", "c1"): 0.05, ("screen", "c2"): 0.03, "c1": -0.03, "c2": -0.03}
    with ScriptedSession(tmp_path, by_arm(effects), settings=configured(refinements=0)) as opened:
        opened.propose("coverage_distance", "collisions")
        opened.screen()
        opened.confirm("c1")
        assert opened.findings() == []
        opened.context.settings = configured(refinements=1)
        opened.confirm("c2")
        found = [each.problem for each in opened.findings()]
        assert "is confirmation 2 of its round, which may make 1" in found


def test_a_confirmation_of_what_was_not_confirmable_is_found(session: ScriptedSession) -> None:
    (screen,) = session.context.round.screens
    assert screen.confirmable == ("c1", "c2")
    session.context.round.screens = [screen.model_copy(update={"confirmable": ("c1", "c2", "c3")})]
    session.confirm("c3", "Worse is better.")
    assert [each.problem for each in session.findings()] == ["confirms c3, which is not confirmable"]


def test_where_code_chooses_another_candidate_than_the_first_is_found(tmp_path: Path) -> None:
    """A study's arm: the program would refuse it, so its settings are changed after they were stored."""
    settings = configured(refinements=1)
    talk = settings.deliberation.model_copy(update={"choice": False})
    code_chooses = settings.model_copy(update={"deliberation": talk})
    problem = "confirms c2, but code chooses in this session, and the ranking has c1 first"
    for name, problems in (("c2", [problem]), ("c1", [])):
        (tmp_path / name).mkdir()
        with ScriptedSession(tmp_path / name, by_arm(EFFECTS), settings=code_chooses) as opened:
            opened.propose("coverage_distance", "collisions", "worst_coverage_distance")
            opened.screen()
            opened.context.settings = settings
            opened.confirm(name, "It is steadier.")
            assert [each.problem for each in opened.findings()] == problems


def test_what_an_earlier_version_said_in_other_words_still_agrees(judged: ScriptedSession) -> None:
    with Reader.open(judged.ledger.path) as reader:
        (row,) = [each for each in reader.comparisons(SESSION) if each.id.endswith(f"/{PASSED}")]
    now = recompute("confirm", row.inputs, row.settings)["reason"]
    assert now == row.result["reason"] and "smallest possible" in now and "% interval" in now
    earlier = {name: value for name, value in row.inputs.items() if name != "wording"}
    before = recompute("confirm", earlier, row.settings)["reason"]
    assert re.sub(r" \((smallest possible|[0-9.]+% interval)[^)]*\)", "", now) == before != now


# by someone with SQLite at hand ------------------------------------------------------------------


def findings(path: Path) -> list[Finding]:
    with Reader.open(path) as reader:
        return verify(reader, recompute, session_rules)


def test_a_changed_level_is_found_also_with_a_result_to_match(judged: ScriptedSession) -> None:
    path = judged.ledger.path
    judged.ledger.close()
    forge(path, FAILED, "inputs", lambda inputs: inputs.update(level=0.05))
    found = problems(findings(path), FAILED)
    assert any("its level is 0.05, what was left gives 0.025" in each for each in found)
    assert any("level is 0.025, computed again it is 0.05" in each for each in found)
    recomputed(path, FAILED)
    assert problems(findings(path), FAILED) == ["its level is 0.05, what was left gives 0.025"]


def test_a_changed_order_is_found_also_with_a_result_to_match(judged: ScriptedSession) -> None:
    path = judged.ledger.path
    judged.ledger.close()
    forge(path, PASSED, "inputs", lambda inputs: inputs["ordered_by"].update(step=0.1))
    assert any("order.step is None, computed again it is 0.1" in each for each in problems(findings(path), PASSED))
    recomputed(path, PASSED)
    assert problems(findings(path), PASSED) == ["is ordered otherwise than its screen says"]


@pytest.mark.parametrize("arms", [("control", "control"), ("control", "c2")])
def test_branches_that_share_a_seed_are_found(judged: ScriptedSession, arms: tuple[str, str]) -> None:
    path = judged.ledger.path
    trained = body(path, PASSED, "inputs")[1]["arms"]
    one, other = trained[arms[0]][0]["segment"], trained[arms[1]][1]["segment"]
    judged.ledger.close()
    tamper(path, f"UPDATE segments SET seed = (SELECT seed FROM segments WHERE id = '{one}') WHERE id = '{other}'")
    assert "has branches that share a seed" in problems(findings(path), PASSED)


def test_an_outcome_of_a_trial_that_had_not_ended_is_found(judged: ScriptedSession) -> None:
    path = judged.ledger.path
    looks = len(body(path, PASSED, "inputs")[1]["arms"]["c2"])
    judged.ledger.close()
    assert looks > 3

    def cut(inputs: dict[str, Any]) -> None:
        inputs["arms"] = {arm: seeds[:-1] for arm, seeds in inputs["arms"].items()}

    forge(path, PASSED, "inputs", cut)
    tamper(path, f"DELETE FROM branch_segments WHERE position = {looks - 1}")
    assert problems(findings(path), PASSED) == [
        f"its statistics cannot be computed again: found a trial of {looks - 1} looks, but it had not ended"
    ]


def test_looks_after_the_end_of_a_trial_are_found(judged: ScriptedSession) -> None:
    """c1 failed at its first look; the branches of c2's trial would have been its chance."""
    path = judged.ledger.path
    more = body(path, PASSED, "inputs")[1]["arms"]
    judged.ledger.close()

    def go_on(inputs: dict[str, Any]) -> None:
        inputs["arms"]["control"] += more["control"][1:2]
        inputs["arms"]["c1"] += more["c2"][1:2]

    forge(path, FAILED, "inputs", go_on)
    found = problems(findings(path), FAILED)
    assert "its statistics cannot be computed again: found a trial of 2 looks, but look 1 ended it" in found
    assert "compares other segments of control than its branch has" in found


@pytest.mark.parametrize(("name", "value"), [("outcome", "pass"), ("wins", 1), ("size", 0.001), ("p", 0.01)])
def test_a_changed_result_is_found(judged: ScriptedSession, name: str, value: object) -> None:
    path = judged.ledger.path
    before = body(path, FAILED, "result")[1][name]
    judged.ledger.close()
    forge(path, FAILED, "result", lambda result: result.update({name: value}))
    assert f"{name} is {value}, computed again it is {before}" in problems(findings(path), FAILED)


def test_a_confirmation_moved_to_another_candidate_is_found(judged: ScriptedSession) -> None:
    path = judged.ledger.path
    judged.ledger.close()
    tamper(
        path,
        f"UPDATE comparisons SET candidate_id = '{SESSION}/P1.0/c3' WHERE id = '{SESSION}/{PASSED}'",
        "UPDATE branches SET arm = 'c3' WHERE arm = 'c2' AND purpose = 'confirm'",
    )
    assert "confirms c3, which is not confirmable" in problems(findings(path), PASSED)


@pytest.fixture
def unscreened(tmp_path: Path) -> ScriptedSession:
    """A single candidate, whose confirmation is ordered by the main run."""
    with ScriptedSession(tmp_path, by_arm({"c1": -0.03})) as opened:
        opened.propose("coverage_distance")
        opened.confirm("c1")
        assert opened.findings() == []
        return opened


def test_another_order_than_the_main_runs_is_found(unscreened: ScriptedSession) -> None:
    path = unscreened.ledger.path
    forge(path, SCREEN, "inputs", lambda inputs: inputs["ordered_by"].update(step=0.1))
    recomputed(path, SCREEN)
    assert problems(findings(path), SCREEN) == [
        "its statistics cannot be computed again: found an order with the step 0.1, the main run gives None"
    ]


def test_an_order_by_another_segment_than_the_branches_begin_at_is_found(unscreened: ScriptedSession) -> None:
    path = unscreened.ledger.path
    other = body(path, SCREEN, "inputs")[1]["arms"]["c1"][0]["segment"]
    forge(path, SCREEN, "inputs", lambda inputs: inputs.update(ordered_from=other))
    assert problems(findings(path), SCREEN) == ["is ordered by another segment than it begins at"]


@pytest.mark.parametrize("name", ["size", "order", "confirmable"])
def test_a_result_that_lacks_a_number_is_a_finding(judged: ScriptedSession, name: str) -> None:
    path, comparison = judged.ledger.path, FAILED if name == "size" else SCREEN
    judged.ledger.close()
    forge(path, comparison, "result", lambda result: result.pop(name))
    assert any(name in each for each in problems(findings(path), comparison))
