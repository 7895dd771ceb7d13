"""A screen that halves: who goes on, what is trained again (nothing), what is recorded, and what it costs."""

from __future__ import annotations

import asyncio
import json
from io import StringIO
from itertools import combinations
from pathlib import Path

import pytest
from rich.console import Console

from learning_signal.agents.session.session import run_session
from learning_signal.ledger.read.decision.explain import explain
from learning_signal.ledger.read.reader import Reader
from learning_signal.ledger.read.verify import verify
from learning_signal.marl.gate.recompute import recompute
from learning_signal.marl.gate.settings import GateSettings
from learning_signal.tools.base import ToolRefused
from learning_signal.tools.briefs.brief import brief
from learning_signal.tools.plan.cost import round_cost, rung_lengths, rung_sizes, screen_env_steps
from learning_signal.tools.plan.settings import session_rules
from learning_signal.tools.plan.suitability import Unsuitable, refuse_unsuitable
from learning_signal.tools.round.screens import owes_screen
from learning_signal.viewer.reports.explain import render_decision
from tests.support.rules_chat import Chat
from tests.support.scripted_session import PAIRED, ScriptedSession
from tests.support.session_helpers import Recorder, tiny_settings
from tests.support.synthetic_training import InlinePool
from tests.support.trainer_double import by_arm

TEAM = ("coverage_distance", "collisions", "worst_coverage_distance", "spacing")
POTENTIALS = [*TEAM, *(f"{one} * {other}" for one, other in combinations(TEAM, 2))]
DIED = "The worker died (signal 9, SIGKILL)."


def halving(halvings: int = 2, branch_steps: int = 1600, candidates: int = 8):
    return PAIRED.model_copy(
        update={
            "gate": PAIRED.gate.model_copy(update={"screen_halvings": halvings}),
            "branch_steps": branch_steps,
            "deliberation": PAIRED.deliberation.model_copy(update={"candidates": candidates}),
        }
    )


def session_of(folder: Path, effects: dict, candidates: int = 5, **settings) -> ScriptedSession:
    session = ScriptedSession(folder, by_arm(effects), settings=halving(**settings))
    session.propose(*POTENTIALS[:candidates])
    return session


def inputs(session: ScriptedSession) -> list[dict]:
    bodies = [session.ledger.find("bodies", hash=row["inputs"])[0]["body"] for row in session.rows("comparisons")]
    return [json.loads(body) for body in bodies]


EFFECTS = {"c1": 0.01, "c2": 0.05, "c3": 0.03, "c4": 0.02, "c5": 0.0}


def test_the_better_half_goes_on_until_one_is_chosen(tmp_path):
    with session_of(tmp_path, EFFECTS) as session:
        first = session.rung()
        assert (first["rung"], first["chosen"], first["goes_on"]) == ("1 of 3", None, ["c2", "c3", "c4"])
        assert owes_screen(session.context)
        with pytest.raises(ToolRefused, match="Found c1, which an earlier rung of the screen dropped, expected one"):
            session.call("launch_branch", arm="c1", purpose="screen")
        with pytest.raises(ToolRefused, match="Found no screen yet"):
            session.call("launch_branch", arm="c2", purpose="confirm")
        for arm in ("control", "c2", "c3"):
            launched = session.call("launch_branch", arm=arm, purpose="screen")
        assert (launched["branch"], launched["segments"], launched["env_steps_each"]) == ("B4", 2, 400)
        second = session.rung()  # with c4, which was not launched yet
        assert second["goes_on"] == ["c2", "c3"]
        last = session.screen()
        assert (last["rung"], last["chosen"], last["goes_on"]) == ("3 of 3", "c2", None)
        assert not owes_screen(session.context)
        assert session.confirm("c2")["outcome"] == "pass"
        session.validate("c2", "pass")
        fates = {each.candidate: (each.outcome, each.reason) for each in session.context.state.tried}
        assert fates["c2"][0] == "passed"
        assert fates["c1"] == ("screened out", "behind c2 in the screen: +0.01 against +0.05 of progress")
        assert [each.get("rung") for each in inputs(session)] == [0, 1, 2, None]
        assert len(session.rows("branches")) == 6 + 2
        assert session.findings() == []


def test_a_rung_goes_on_where_the_one_before_it_ended(tmp_path):
    with session_of(tmp_path, EFFECTS) as session:
        session.screen()
        segments = {row["id"]: row for row in session.rows("segments")}
        own = [row["segment_id"] for row in session.rows("branch_segments") if row["branch_id"].endswith("/B3")]
        assert [segments[each]["env_steps"] for each in own] == [200, 200, 200, 200, 400, 400]
        assert [segments[each]["parent"] for each in own[2:]] == own[:4]
        head = session.context.state.head
        assert {segments[each]["parent"] for each in own[:2]} == {head.segment}
        assert {segments[each]["end_env_steps"] for each in own[4:]} == {head.env_steps + 800}
        trained = sum(row["env_steps"] for row in segments.values()) - 200  # but for the stage
        control, candidates = screen_env_steps(halving(candidates=5))
        assert trained == control + candidates == 2 * 800 + 2 * (5 * 200 + 3 * 200 + 2 * 400)


def test_without_halvings_nothing_is_as_it_was_not(tmp_path):
    with ScriptedSession(tmp_path, by_arm(EFFECTS), settings=PAIRED) as session:
        session.propose(*TEAM[:2])
        assert not {"rung", "goes_on"} & session.screen().keys()
        assert [each["rung"] for each in inputs(session)] == [0]


def test_a_resume_in_the_middle_of_a_rung_changes_nothing(tmp_path):
    with session_of(tmp_path, EFFECTS) as session:
        session.rung()
        for arm in ("control", "c2", "c3"):
            session.call("launch_branch", arm=arm, purpose="screen")
        computed = list(session.pool.computed)
        session.resume()
        assert session.call("launch_branch", arm="c2", purpose="screen")["branch"] == "B3"
        assert session.rung()["goes_on"] == ["c2", "c3"]
        assert session.call("read_branch", branch="B3")["status"] == "done"
        assert len(session.pool.computed) == len(computed) + 2
        assert session.findings() == []


def test_one_that_failed_is_dropped_and_counts_for_the_half(tmp_path):
    with session_of(tmp_path, EFFECTS | {"c2": DIED}, candidates=4) as session:
        assert session.rung()["goes_on"] == ["c3", "c4"]
    (tmp_path / "second").mkdir()
    with session_of(tmp_path / "second", EFFECTS | {"c2": DIED, "c3": DIED, "c4": DIED}, candidates=4) as session:
        over = session.rung()
        assert (over["chosen"], over["goes_on"], owes_screen(session.context)) == ("c1", None, False)


def test_a_control_that_lost_a_seed_ends_the_screen(tmp_path):
    effects = EFFECTS | {("screen", "control"): [0.0, DIED]}
    with session_of(tmp_path, effects) as session:
        over = session.rung()
        assert (over["chosen"], over["goes_on"]) == ("c2", None)
        (row,) = session.rows("comparisons")
        body = json.loads(session.ledger.find("bodies", hash=row["result"])[0]["body"])
        assert "the control has no progress for seed 2 of 2, which is left out" in body["reason"]
        assert session.confirm("c2")["outcome"] == "pass"
        session.validate("c2", "pass")
        assert session.findings() == []


def test_the_screen_climbs_its_rungs_and_the_validator_by_rule_confirms_its_last(tmp_path):
    with session_of(tmp_path, EFFECTS) as session:
        session.screen()
        chat = Chat("validator", json.loads(brief(session.context, "validator").partition("\n")[2]))
        for _ in range(16):
            calls = chat.ask()
            chat.reply(*(session.call(name, **arguments) for name, arguments in calls))
            if calls[-1][0] == "submit_validation":
                break
        assert calls[-1][1]["candidate"] == "c2" and calls[-1][1]["outcome"] == "pass"
        names = [f"c{index}" for index in range(1, 6)]
        launched = [row["title"].split()[2] for row in session.rows("events") if row["kind"] == "branch"]
        assert launched == ["control", *names, "control", "c2", "c3", "c4", "control", "c2", "c3", "control", "c2"]


@pytest.mark.parametrize(
    ("candidates", "halvings", "sizes"),
    [(3, 0, (3,)), (8, 2, (8, 4, 2)), (16, 3, (16, 8, 4, 2)), (3, 2, (3, 2)), (2, 3, (2,)), (5, 1, (5, 3))],
)
def test_how_many_reach_each_rung(candidates, halvings, sizes):
    assert rung_sizes(candidates, halvings) == sizes


def test_what_a_halving_screen_costs():
    assert rung_lengths(halving()) == (200, 400, 800)
    plain, halved = halving(halvings=0, candidates=8), halving(candidates=8)
    assert screen_env_steps(plain) == (1600, 8 * 1600)
    assert screen_env_steps(halved) == (1600, 2 * (8 * 200 + 4 * 200 + 2 * 400))
    assert screen_env_steps(halving(candidates=1)) == (0, 0)
    from learning_signal.marl.tasks import make_task

    task = make_task("spread", 1).spec
    saved = round_cost(plain, task).first - round_cost(halved, task).first
    assert saved == 8 * 1600 - 2 * 3200


def test_rungs_that_would_train_nothing_are_refused():
    from learning_signal.marl.tasks import make_task

    task = make_task("spread", 1).spec
    refuse_unsuitable(halving(), task)
    with pytest.raises(Unsuitable, match="with rungs that end after 200, 200, 400 env steps, expected each"):
        refuse_unsuitable(halving(branch_steps=800), task)


@pytest.mark.parametrize(
    ("gate", "words"),
    [
        ({"screen_halvings": 1}, "→ c1, c2 go on"),
        ({}, "each branch on a seed of its own"),
        ({"mode": "paired", "family_alpha": 0.05, "confirm_seeds": 7}, "family alpha 0.05"),
        ({"mode": "always", "confirm_seeds": 1}, "pass with the gate off"),
        ({"mode": "single run", "screen_seeds": 1, "confirm_seeds": 1, "screen_fraction": 1.0}, "nothing was tested"),
    ],
)
def test_a_whole_session_under_each_gate_is_verified_and_explained(tmp_path, gate, words):
    settings = tiny_settings(tmp_path)
    settings = settings.model_copy(
        update={
            "gate": GateSettings(**gate),
            "branch_steps": 800,
            "rounds": 1,
            "deliberation": settings.deliberation.model_copy(update={"candidates": 4}),
        }
    )
    outcome = asyncio.run(
        run_session(settings, observer=Recorder(), judge=settings.gate.judge, executor=InlinePool(settings.store))
    )
    assert outcome.status == "done"
    with Reader.open(settings.ledger) as reader:
        assert verify(reader, recompute, session_rules) == []
        screens = [each for each in reader.comparisons(outcome.session_id) if each.purpose == "screen"]
        # The rules give a screen of equal candidates a further seed, where they may.
        assert len(screens) == (2 if "screen_halvings" in gate or not gate else 1)
        console = Console(width=100, record=True, file=StringIO())
        console.print(render_decision(explain(reader)))
    assert words in " ".join(console.export_text().split())
