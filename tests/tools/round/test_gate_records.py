"""What a comparison leaves in the ledger: all it rests on, computed again under every rule, and tampering found."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from learning_signal.ledger.canonical import content_hash
from learning_signal.ledger.read.reader import Reader
from learning_signal.ledger.read.verify import verify
from learning_signal.marl.gate.recompute import recompute
from learning_signal.marl.gate.settings import GateSettings
from learning_signal.tools.plan.settings import session_rules
from learning_signal.tools.plan.sources import SettingsError, gather
from learning_signal.tools.plan.suitability import Unsuitable, refuse_unsuitable
from tests.support.scripted_session import PAIRED, SETTINGS, ScriptedSession
from tests.support.trainer_double import by_arm

GOOD, OTHER = "coverage_distance", "collisions"
SINGLE = GateSettings(mode="single run", screen_seeds=1, confirm_seeds=1, screen_fraction=1)
ALWAYS = GateSettings(mode="always", confirm_seeds=1)
FAMILY = GateSettings(mode="paired", family_alpha=0.05, confirm_seeds=7)


def judged(folder: Path, gate: GateSettings, score=None) -> ScriptedSession:
    """A session with one confirmed candidate of two under this gate, and its verdict."""
    settings = SETTINGS.model_copy(update={"gate": gate})
    session = ScriptedSession(folder, score or by_arm({"c1": 0.03}), settings=settings)
    session.outcome = session.judged(GOOD, OTHER)
    return session


def body(session: ScriptedSession, purpose: str, column: str) -> dict:
    (row,) = [row for row in session.rows("comparisons") if row["purpose"] == purpose]
    return json.loads(session.ledger.find("bodies", hash=row[column])[0]["body"])


def after(session: ScriptedSession, purpose: str, column: str, change) -> list[str]:
    """What a verification finds once ``change`` has been made to a body, which gets a hash that fits."""
    changed = body(session, purpose, column)
    change(changed)
    text = json.dumps(changed, sort_keys=True, separators=(",", ":"))
    with closing(sqlite3.connect(session.ledger.path)) as database, database:
        database.execute("DROP TRIGGER comparisons_no_update")
        database.execute("INSERT OR IGNORE INTO bodies (hash, body) VALUES (?, ?)", (content_hash(text), text))
        database.execute(f"UPDATE comparisons SET {column} = ? WHERE purpose = ?", (content_hash(text), purpose))
    with Reader.open(session.ledger.path) as reader:
        return [each.problem for each in verify(reader, recompute, session_rules) if each.table == "comparisons"]


@pytest.mark.parametrize(
    ("column", "value", "found"),
    [("seed", 12345, "c1 has other seeds than control"), ("shaping", None, "c1 was trained under several shapings")],
)
def test_arms_that_are_no_pairs_are_found(tmp_path, column, value, found):
    with judged(tmp_path, PAIRED.gate) as session:
        segment = body(session, "confirm", "inputs")["arms"]["c1"][1]["segment"]
        other = body(session, "confirm", "inputs")["arms"]["control"][1]["segment"]
        assert session.findings() == []
        with closing(sqlite3.connect(session.ledger.path)) as database, database:
            for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
                database.execute(f"DROP TRIGGER {name}")
            if value is None:
                (value,) = database.execute("SELECT shaping FROM segments WHERE id = ?", (other,)).fetchone()
            database.execute(f"UPDATE segments SET {column} = ? WHERE id = ?", (value, segment))
        with Reader.open(session.ledger.path) as reader:
            assert found in [
                each.problem for each in verify(reader, recompute, session_rules) if each.table == "comparisons"
            ]


@pytest.mark.parametrize("gate", [PAIRED.gate, SINGLE, ALWAYS, FAMILY], ids=["paired", "single", "always", "family"])
def test_every_rule_is_recorded_and_computed_again(tmp_path, gate):
    with judged(tmp_path, gate) as session:
        assert session.outcome == ("fail" if gate.mode == "single run" else "pass")
        verdict, inputs = body(session, "confirm", "result"), body(session, "confirm", "inputs")
        assert verdict["settings"] == gate.model_dump(mode="json") == body(session, "confirm", "settings")
        assert inputs["confirmations"] == 4  # two rounds, one refinement each
        assert [len(seeds) for seeds in inputs["arms"].values()] == [gate.confirm_seeds] * 2
        assert all(seed["segment"] and seed["evaluations"] for seeds in inputs["arms"].values() for seed in seeds)
        assert (verdict["p"] is None) == (gate.mode != "paired")
        assert session.findings() == []


def test_the_family_s_share_is_what_is_used(tmp_path):
    with judged(tmp_path, FAMILY) as session:
        verdict = body(session, "confirm", "result")
        assert (verdict["alpha"], verdict["p"]) == (0.0125, 2**-7)
        assert "(one of 4 that share family alpha 0.05)" in verdict["reason"]


def test_the_usual_practice_trains_nothing_twice_and_judges_on_what_it_chose_by(tmp_path):
    def lucky(launched):
        return (2.0 if launched.arm == "c1" else 1.0), 0.1

    with judged(tmp_path, SINGLE, lucky) as session:
        assert session.outcome == "pass"
        assert len(session.pool.computed) == 1 + 3  # the stage, and one run per arm
        seeds = [seed for arm in body(session, "confirm", "inputs")["arms"].values() for seed in arm]
        assert {seed["episode_set"] for seed in seeds} == {"screen"}
        session.call("promote", candidate="c1", reason="It was better in a single run.")
        screened = [each for each in session.context.round.branches if (each.purpose, each.arm) == ("screen", "c1")]
        assert session.context.state.head.segment == screened[0].segments[0]
        assert session.findings() == []


def test_with_the_gate_off_a_worse_candidate_is_promoted(tmp_path):
    with judged(tmp_path, ALWAYS, by_arm({"c1": -0.01, "c2": -0.02})) as session:
        assert session.outcome == "pass"
        assert session.call("promote", candidate="c1", reason="The gate is off.")["decided"] == "promote"
        assert session.findings() == []


def test_a_share_of_the_family_that_fits_its_own_numbers_is_still_not_the_session_s(tmp_path):
    with judged(tmp_path, FAMILY) as session:
        inputs = body(session, "confirm", "inputs") | {"confirmations": 1}
        again = recompute("confirm", inputs, body(session, "confirm", "settings"))
        assert again["outcome"] == "pass" and again["alpha"] == 0.05
        after(session, "confirm", "inputs", lambda each: each.update(confirmations=1))
        text = json.dumps(again, sort_keys=True, separators=(",", ":"))
        with closing(sqlite3.connect(session.ledger.path)) as database, database:
            database.execute("INSERT OR IGNORE INTO bodies (hash, body) VALUES (?, ?)", (content_hash(text), text))
            database.execute("UPDATE comparisons SET result = ? WHERE purpose = 'confirm'", (content_hash(text),))
        with Reader.open(session.ledger.path) as reader:
            (found,) = [
                each.problem for each in verify(reader, recompute, session_rules) if each.table == "comparisons"
            ]
        assert found == "its confirmations is 1, the session's is 4"


@pytest.mark.parametrize(
    ("purpose", "column", "change", "found"),
    [
        ("confirm", "result", lambda each: each.update(p=0.01), "p is 0.01, computed again it is"),
        ("confirm", "result", lambda each: each.update(alpha=0.05), "alpha is 0.05, computed again it is 0.0125"),
        ("confirm", "result", lambda each: each.update(interval=[0.0, 1.0]), "interval[0] is 0.0"),
        ("confirm", "inputs", lambda each: each.update(confirmations=1), "alpha is 0.0125, computed again it is 0.05"),
        ("confirm", "settings", lambda each: each.update(family_alpha=0.5), "its family_alpha is 0.5, the session's"),
        (
            "confirm",
            "inputs",
            lambda each: each["arms"]["c1"][0].update(progress=0.5),
            "progress of c1, seed 1, is 0.5",
        ),
        (
            "confirm",
            "inputs",
            lambda each: each["arms"]["c1"].pop(),
            "compares other segments of c1 than its branch has",
        ),
        ("confirm", "inputs", lambda each: each["arms"]["c1"].reverse(), "compares other segments of c1"),
        (
            "confirm",
            "inputs",
            lambda each: each["arms"].update(c1=each["arms"]["control"]),
            "compares other segments of",
        ),
        ("screen", "inputs", lambda each: each["arms"].update(c2=each["arms"]["c1"]), "compares other segments of c2"),
        ("screen", "inputs", lambda each: each.update(rung=1), "compares other segments of control"),
        ("screen", "result", lambda each: each.update(chosen="c2"), "chosen is c2, computed again it is c1"),
        (
            "screen",
            "inputs",
            lambda each: each["arms"]["c2"][1].update(evaluations=[]),
            "found c2, seed 2, measured by its evaluations after [] env steps, expected the later half, after [",
        ),
        (
            "screen",
            "inputs",
            lambda each: each["arms"]["c2"][1].update(episode_set="confirm"),
            "found c2, seed 2, measured on confirm episodes, expected screen",
        ),
    ],
)
def test_tampering_is_found(tmp_path, purpose, column, change, found):
    with judged(tmp_path, FAMILY) as session:
        assert session.findings() == []
        assert any(found in finding for finding in after(session, purpose, column, change))


@pytest.mark.parametrize(("gate", "right", "wrong"), [(SINGLE, "screen", "confirm"), (ALWAYS, "confirm", "screen")])
def test_a_confirmation_on_other_episodes_than_its_judge_s_is_refused(tmp_path, gate, right, wrong):
    with judged(tmp_path, gate) as session:
        inputs, settings = body(session, "confirm", "inputs"), body(session, "confirm", "settings")
        assert recompute("confirm", inputs, settings)["outcome"] == session.outcome
        for seed in inputs["arms"]["c1"]:
            seed["episode_set"] = wrong
        with pytest.raises(ValueError, match=f"found c1, seed 1, measured on {wrong} episodes, expected {right}"):
            recompute("confirm", inputs, settings)


def test_a_comparison_of_fewer_seeds_than_the_gate_asks_for_is_refused(tmp_path):
    with judged(tmp_path, PAIRED.gate) as session:
        inputs, settings = body(session, "confirm", "inputs"), body(session, "confirm", "settings")
        for seeds in inputs["arms"].values():
            seeds.pop()
        with pytest.raises(ValueError, match="found 4 seeds of c(ontrol|1), expected 5"):
            recompute("confirm", inputs, settings)


def test_a_comparison_of_an_earlier_version_is_computed_again_with_fewer_settings(tmp_path):
    with judged(tmp_path, PAIRED.gate) as session:
        old = {name: value for name, value in body(session, "confirm", "settings").items() if "alpha" not in name}
        old["alpha"] = 0.05
        inputs = body(session, "confirm", "inputs")
        del inputs["confirmations"]
        again = recompute("confirm", inputs, old)
        assert again == body(session, "confirm", "result") | {"settings": old}


def test_a_trial_of_an_earlier_version_is_computed_again_with_fewer_settings(tmp_path):
    with judged(tmp_path, SETTINGS.gate) as session:
        old = {name: value for name, value in body(session, "confirm", "settings").items() if name != "floor"}
        again = recompute("confirm", body(session, "confirm", "inputs"), old)
        assert again == body(session, "confirm", "result") | {"settings": old}


# --- who may use a rule that tests nothing ---


@pytest.mark.parametrize("gate", [SINGLE, ALWAYS])
def test_a_session_refuses_a_gate_that_tests_nothing(tmp_path, gate):
    from learning_signal.agents.session.plan import plan
    from learning_signal.agents.session.session import run_session
    from learning_signal.marl.tasks import make_task

    settings = SETTINGS.model_copy(update={"gate": gate, "ledger": tmp_path / "ledger.db"})
    with pytest.raises(Unsuitable, match="Found gate.mode .*, which promotes without a test, expected 'sequential'"):
        asyncio.run(run_session(settings, observer=None))
    with pytest.raises(Unsuitable, match=r"controls of a study \(learning-signal study\)"):
        plan(settings)
    assert not settings.ledger.exists()
    task = make_task("spread", 1).spec
    refuse_unsuitable(settings, task, gate.judge)  # what a study says
    refuse_unsuitable(SETTINGS, task)


def test_settings_that_do_not_fit_together_are_one_sentence():
    paired = {"LEARNING_SIGNAL_GATE__MODE": "paired"}
    given = gather({"family_alpha": "0.05"}, paired, None)
    with pytest.raises(SettingsError) as refused:
        given.settings({}, {})
    sentence = str(refused.value)
    assert sentence.startswith("Settings that do not fit together were found: confirm_seeds is 5, but the smallest p ")
    assert sentence.endswith("use at least 7 confirm_seeds or a larger family_alpha.")
    with pytest.raises(SettingsError, match="--family-alpha sets gate.family_alpha to '2', expected less than 0.5"):
        gather({"family_alpha": "2"}, {}, None).settings({}, {})
    settings = gather({"family_alpha": "0.2"}, paired, None).settings({}, {})
    assert settings.gate.shared_alpha(settings.confirmations) == pytest.approx(0.2 / 6)


# --- a sequential confirmation ---


def test_a_trial_is_recorded_with_its_order_and_level(tmp_path):
    with judged(tmp_path, SETTINGS.gate) as session:
        assert session.outcome == "pass"
        look, inputs = body(session, "confirm", "result"), body(session, "confirm", "inputs")
        assert look["settings"] == SETTINGS.gate.model_dump(mode="json") == body(session, "confirm", "settings")
        assert inputs["level"] == look["level"] == 0.05 / 2  # half of the session's
        assert inputs["ordered_by"] == look["order"] == body(session, "screen", "result")["order"]
        assert inputs["ordered_from"] == "C1"
        assert [len(seeds) for seeds in inputs["arms"].values()] == [look["look"]] * 2
        assert session.findings() == []


def test_a_trial_of_a_single_candidate_is_ordered_by_the_main_run(tmp_path):
    with ScriptedSession(tmp_path, by_arm({"c1": 0.03})) as session:
        assert session.judged(GOOD) == "pass"
        assert body(session, "confirm", "inputs")["ordered_from"] == session.rows("segments")[0]["id"]
        assert session.findings() == []


def test_what_a_confirmation_promotes_hands_its_level_on_and_what_it_does_not_is_spent(tmp_path):
    effects = {("screen", "c1"): 0.02, ("screen", "c2"): 0.01, ("confirm", "c2"): 0.03}
    with ScriptedSession(tmp_path, by_arm(effects)) as session:
        assert session.judged(GOOD, OTHER) == "fail"
        sizes = [session.context.round.confirmations[0].size]
        assert session.context.state.level_spent == pytest.approx(sizes[0])
        session.call("send_back", candidate="c2", reason="It was better than the control too.")
        compared = session.confirm("c2")
        second = session.context.round.confirmations[1]
        assert (second.outcome, second.level) == ("pass", pytest.approx((0.05 - sizes[0]) / 2))
        assert compared["after_this"]["confirmations_left"] == 0
        sizes.append(second.size)
        assert session.context.state.level_spent == pytest.approx(sum(sizes))
        session.validate("c2", "pass")
        session.call("promote", candidate="c2", reason="It passed.")
        assert session.context.state.level_spent == pytest.approx(sizes[0])
        assert session.findings() == []


@pytest.mark.parametrize(
    ("purpose", "column", "change", "found"),
    [
        ("confirm", "result", lambda each: each.update(wins=15), "wins is 15, computed again it is 16"),
        ("confirm", "result", lambda each: each.update(p=0.5), "p is 0.5, computed again it is"),
        ("confirm", "inputs", lambda each: each.update(level=0.05), "its level is 0.05, what was left gives 0.025"),
        ("confirm", "inputs", lambda each: each["ordered_by"].update(step=1.0), "is ordered otherwise than its screen"),
        (
            "confirm",
            "inputs",
            lambda each: [seeds.pop() for seeds in each["arms"].values()],
            "found a trial of 3 looks, but it had not ended",
        ),
        (
            "confirm",
            "inputs",
            lambda each: each["arms"]["c1"][0].update(succeeded=0.5),
            "found succeeded 0.5 of c1, seed 1, its evaluations give 0.0",
        ),
        (
            "confirm",
            "inputs",
            lambda each: each["arms"].update(c1=each["arms"]["control"]),
            "has branches that share a seed",
        ),
        ("screen", "result", lambda each: each.update(confirmable=["c2"]), "confirms c1, which is not confirmable"),
    ],
)
def test_tampering_with_a_trial_is_found(tmp_path, purpose, column, change, found):
    with judged(tmp_path, SETTINGS.gate) as session:
        assert session.findings() == []
        problems = after(session, purpose, column, change)
        assert any(found in problem for problem in problems), problems
