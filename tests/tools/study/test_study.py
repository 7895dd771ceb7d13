"""Studies: equal env steps for every arm, nothing computed twice, selection on screen episodes, honest tables."""

from __future__ import annotations

import asyncio
import json
import re
import sqlite3
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, replace

import numpy as np
import pytest
from rich.console import Console

import learning_signal.agents.session.study
from learning_signal.agents.rules import RandomClient
from learning_signal.agents.session.observer import SessionControl
from learning_signal.agents.session.session import resume_session
from learning_signal.agents.session.study import run_study
from learning_signal.ledger.read.reader import Reader
from learning_signal.ledger.read.verify import verify
from learning_signal.marl.errors import SegmentFailed
from learning_signal.marl.gate.recompute import recompute
from learning_signal.marl.gate.settings import GateSettings
from learning_signal.marl.segments.segment import SegmentStore
from learning_signal.marl.shaping import ShapingConfig, check
from learning_signal.marl.shaping.random import draw_for, perturb
from learning_signal.marl.tasks import make_task
from learning_signal.run import run as command
from learning_signal.tools.plan.settings import session_rules
from learning_signal.tools.plan.suitability import Unsuitable
from learning_signal.tools.study.arms import Member, exploited
from learning_signal.tools.study.cell import CellResult, Point
from learning_signal.tools.study.results import report, session_so_far, trained_by
from learning_signal.tools.study.study import (
    ARMS,
    SESSION_ARMS,
    Cell,
    StudyError,
    alone_in,
    parse_arms,
    session_settings,
    study_settings,
)
from learning_signal.viewer.reports.study_end import render_study
from learning_signal.viewer.reports.study_plot import draw
from tests.support.rules_chat import Chat, generator_brief
from tests.support.session_helpers import tiny_settings
from tests.support.synthetic_training import InlinePool, train

STEPS = 14_000
SHORT = 6_000
SPREAD = make_task("spread", 1).spec


class CountingPool(InlinePool):
    """Counts what is really trained; ``fails`` and ``scores`` may interfere with a segment."""

    computed: Counter = Counter()
    specs: dict = {}

    def submit(self, spec, urgent: bool = True):
        if not self._store.has(spec.id):
            type(self).computed[spec.id] += 1
        type(self).specs[spec.id] = spec
        return super().submit(spec, urgent)


@dataclass
class Watcher:
    """An observer that asks for a pause once ``pause_after`` cells have ended."""

    control: SessionControl
    pause_after: int | None = None
    ended: int = 0
    done: int = 0

    def cell(self, cell, result) -> None:
        self.ended += result is not None
        if self.ended == self.pause_after:
            self.control.request_pause()

    def progress(self, done: int) -> None:
        self.done = done


@pytest.fixture
def pool(monkeypatch):
    monkeypatch.setattr(learning_signal.agents.session.study, "open_executor", CountingPool)
    monkeypatch.setattr(
        "learning_signal.marl.segments.segment._flush", lambda path: None
    )  # thousands of waits for a disk
    CountingPool.computed, CountingPool.specs = Counter(), {}
    return CountingPool


def study(folder, arms, seeds=2, env_steps=STEPS, tasks=None, **changes):
    base = tiny_settings(folder, **changes)
    return study_settings(arms, tasks or [base], seeds, str(env_steps), folder / "study")


def run(settings, pause_after=None):
    control = SessionControl()
    watcher = Watcher(control, pause_after)
    return asyncio.run(run_study(settings, observer=watcher, control=control)), watcher


def cells(found):
    return {(cell["arm"], cell["seed"]): cell for cell in found["cells"]}


@pytest.mark.parametrize(
    "arms", ["supervised,usual,twin,static,clones", pytest.param(",".join(ARMS), marks=pytest.mark.slow)]
)
def test_every_arm_trains_exactly_the_same_env_steps_and_what_arms_share_is_computed_once(tmp_path, pool, arms):
    # Longer branches and stages: fewer rounds show the same.
    settings = study(tmp_path, arms, seeds=1, stage_steps=1_000, branch_steps=800)
    found, watcher = run(settings)
    for cell in found["cells"]:
        assert cell["outcome"] == "done", cell["reason"]
        assert cell["env_steps"] == STEPS, cell["arm"]
        assert cell["curve"][-1]["env_steps"] == STEPS and cell["final"] is not None
        assert cell["evaluation_env_steps"] > 0, "beside them"
        assert (cell["promotions"] is None) == (cell["arm"] not in SESSION_ARMS)
        positions = [point["env_steps"] for point in cell["curve"]]
        assert positions == sorted(positions)
    assert watcher.done == STEPS * len(found["cells"]) == STEPS * len(arms.split(","))
    assert set(pool.computed.values()) == {1}  # the first stage, above all, belongs to every session and the twin
    by_cell = cells(found)
    assert by_cell["supervised", 0]["final"] > by_cell["twin", 0]["final"]  # in this world every shaping helps
    assert by_cell["supervised", 0]["promotions"] >= 1
    assert by_cell["clones", 0]["shaping_text"] == "no shaping"
    with Reader.open(settings.folder / "ledger.db") as reader:
        assert verify(reader, recompute, session_rules) == []

    computed = pool.computed.copy()
    again, _ = run(settings)
    assert again["cells"] == found["cells"] and pool.computed == computed


def test_a_study_that_was_paused_goes_on_and_ends_like_one_that_was_not(tmp_path, pool):
    whole, _ = run(study(tmp_path / "whole", "supervised,twin,clones", seeds=1, env_steps=SHORT))
    CountingPool.computed = Counter()
    parts = study(tmp_path / "parts", "supervised,twin,clones", seeds=1, env_steps=SHORT)
    first, _ = run(parts, pause_after=1)
    assert {cell["outcome"] for cell in first["cells"]} == {"done", "stopped"}
    assert all(cell["final"] is None for cell in first["cells"] if cell["outcome"] == "stopped")
    second, _ = run(parts)
    assert set(CountingPool.computed.values()) == {1}

    def told(found):
        return [[cell[name] for name in ("arm", "final", "curve", "env_steps")] for cell in found["cells"]]

    assert told(second) == told(whole)


def test_the_arms_that_are_sessions_differ_as_they_say(tmp_path):
    settings = study(tmp_path, ",".join(ARMS))
    of = {arm: session_settings(settings, Cell(arm, "spread", 1)) for arm in SESSION_ARMS}
    assert {arm: each.gate.mode for arm, each in of.items()} == {
        "supervised": "sequential",
        "random": "sequential",
        "critic-off": "sequential",
        "evidence-off": "sequential",
        "code-chooses": "sequential",
        "paired": "paired",
        "always": "always",
        "usual": "single run",
    }
    assert of["random"].agents["generator"] == "random" and of["supervised"].agents["generator"] == "rules"
    assert not of["critic-off"].deliberation.critic and not of["evidence-off"].deliberation.behaviour
    for each in of.values():
        assert each.seed == 1 and not each.twin and not each.speculate
        assert each.ledger == tmp_path / "study" / "ledger.db"


def test_a_session_with_the_gate_off_goes_on_in_its_study_alone(tmp_path, pool, capsys):
    settings = study(tmp_path, "always", seeds=1, env_steps=SHORT)
    found, _ = run(settings)
    session, ledger = found["cells"][0]["session"], settings.folder / "ledger.db"
    with pytest.raises(Unsuitable, match="Found gate.mode 'always', which promotes without a test"):
        asyncio.run(resume_session(ledger, session, observer=None))
    assert command(["log", "list", "--ledger", str(ledger)]) == 0
    assert "ungated" in capsys.readouterr().out
    assert command(["resume", session, "--ledger", str(ledger)]) == 2
    assert "controls of a study" in " ".join(capsys.readouterr().err.split())
    # A configuration cannot take the gate out of an arm that has one.
    base = tiny_settings(tmp_path / "other", gate=GateSettings(mode="always", confirm_seeds=1))
    other = study_settings("supervised", [base], 1, str(SHORT), tmp_path / "other")
    (cell,) = run(other)[0]["cells"]
    assert cell["outcome"] == "failed" and "promotes without a test" in cell["reason"]


def test_with_the_gate_off_nothing_is_rolled_back(tmp_path, pool, monkeypatch):
    monkeypatch.setenv("SYNTHETIC_WORLD", "regresses")
    found = cells(run(study(tmp_path, "supervised,always,usual", seeds=1, env_steps=7_000))[0])
    assert found["supervised", 0]["rollbacks"] >= 1
    assert found["always", 0]["promotions"] >= 1
    assert found["always", 0]["rollbacks"] == found["usual", 0]["rollbacks"] == 0


def test_a_session_that_was_resumed_outside_its_study_has_no_number(tmp_path, pool, monkeypatch):
    settings = study(tmp_path, "supervised", seeds=1)
    run(settings)
    monkeypatch.setattr(
        "learning_signal.agents.session.study.session_so_far",
        lambda *where: replace(session_so_far(*where), env_steps=14_200),
    )
    (cell,) = run(settings)[0]["cells"]
    assert cell["outcome"] == "failed" and cell["final"] is None
    assert "has trained 14,200 env steps, expected at most 14,000" in cell["reason"] and cell["session"]


def test_branches_that_nobody_waited_for_count(tmp_path, pool):
    settings = study(tmp_path, "supervised", seeds=1)
    session = run(settings)[0]["cells"][0]["session"]
    path = settings.folder / "ledger.db"
    with Reader.open(path) as reader:
        whole, used = trained_by(reader, session), reader.segments(session)
        branch = reader.rows("SELECT segment_id FROM branch_segments WHERE session_id = ?", (session,))[0]["segment_id"]
        stage = reader.main_run(session)[0].segment.id
    with closing(sqlite3.connect(path)) as database, database:
        for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            database.execute(f"DROP TRIGGER {name}")
        database.execute("UPDATE segments SET status = 'pending' WHERE id = ?", (branch,))
    with Reader.open(path) as reader:
        assert trained_by(reader, session) == whole
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("UPDATE segments SET status = 'pending' WHERE id = ?", (stage,))
    with Reader.open(path) as reader:  # a stage in flight is what comes next, and not yet paid for
        assert trained_by(reader, session) == whole - used[stage].env_steps


def test_without_the_critic_nobody_diagnoses_and_without_behaviour_nobody_summarises(tmp_path, pool):
    settings = study(tmp_path, "supervised,critic-off,evidence-off", seeds=1, env_steps=SHORT)
    found = cells(run(settings)[0])
    with Reader.open(settings.folder / "ledger.db") as reader:

        def calls(arm):
            rows = reader.rows("SELECT agent, name FROM tool_calls WHERE session_id = ?", (found[arm, 0]["session"],))
            return {(row["agent"], row["name"]) for row in rows}

        assert ("critic", "summarize_trajectories") in calls("supervised")
        assert not any(agent == "critic" for agent, _ in calls("critic-off"))
        assert ("critic", "submit_diagnosis") in calls("evidence-off")
        assert not any(name == "summarize_trajectories" for _, name in calls("evidence-off"))


def test_nothing_rests_on_the_episodes_that_are_reported(tmp_path, pool, monkeypatch):
    """On one set of episodes everybody scores as much: whoever selected by it could not tell anything apart."""
    from tests.support import synthetic_training

    plain = synthetic_training._evaluation
    arms = ("supervised", "usual", "static", "clones", "pbt")

    def told(blind):
        return lambda spec, name, env_steps, skill: plain(spec, name, env_steps, 0.5 if name == blind else skill)

    def trained(blind):
        monkeypatch.setattr(synthetic_training, "_evaluation", told(blind))
        pool.specs = {}
        settings = study(tmp_path / str(blind), ",".join(arms), seeds=1, stage_steps=1_000, branch_steps=800)
        found = cells(run(settings)[0])
        assert all(found[arm, 0]["outcome"] == "done" for arm in arms)
        return found, set(pool.specs)

    found, specs = trained(None)
    assert found["static", 0]["shaping_text"] != "no shaping", "in this world any shaping is better than none"
    assert found["supervised", 0]["promotions"] > 0
    reported, same = trained("report")
    assert same == specs, "all that is trained, so also every promotion"
    assert all(reported[arm, 0]["shaping_text"] == found[arm, 0]["shaping_text"] for arm in arms)
    assert len({point["sparse_return"] for arm in arms for point in reported[arm, 0]["curve"]}) == 1
    confirmed, other = trained("confirm")  # negative control: the gate cannot tell, and what is reported can
    assert other != specs and confirmed["supervised", 0]["promotions"] == 0
    assert len({point["sparse_return"] for point in confirmed["static", 0]["curve"]}) > 1


def test_a_copied_member_keeps_its_new_shaping_and_the_donors_weights(tmp_path):
    rng = np.random.default_rng(3)
    shapings = [draw_for(SPREAD, 2.5, rng) for _ in range(8)]
    members = [Member(f"old{index}", shaping) for index, shaping in enumerate(shapings)]
    results = [_Ended(f"s{index}") for index in range(7)] + [SegmentFailed("diverged")]
    following = exploited(members, results, [0, 1, 2, 3, 4, 5, 6], lambda: draw_for(SPREAD, 2.5, rng), rng)
    for index in range(5):
        assert following[index] == Member(f"s{index}", shapings[index])
    for index in (5, 6, 7):
        assert following[index].parent in ("s0", "s1")
        donor = shapings[int(following[index].parent[1:])]
        assert following[index].shaping not in (shapings[index], donor)


@dataclass
class _Ended:
    id: str


def test_population_based_training_trains_on_under_the_new_shaping(tmp_path, pool):
    run(study(tmp_path, "pbt", seeds=1))
    copies = 0
    for spec in pool.specs.values():
        if spec.parent is not None and spec.shaping != pool.specs[spec.parent].shaping:
            copies += 1
            donor, store = pool.specs[spec.parent], SegmentStore(tmp_path / "segments")
            assert store.load_result(spec.id).start_env_steps == store.load_result(donor.id).end_env_steps
    assert copies >= 7  # two or more of eight in every generation but the last


def test_a_failed_arm_has_its_reason_and_no_number(tmp_path, pool, monkeypatch):
    settings = study(tmp_path, "twin,static", seeds=2)

    def failing(spec, store, progress=None):
        if spec.seed % 2 == 0 and spec.parent is None and spec.shaping.is_none and spec.env_steps == 600:
            raise SegmentFailed("Training diverged.", env_steps=200)
        return train(spec, store, progress)

    monkeypatch.setattr("tests.support.synthetic_training.train", failing)
    found, _ = run(settings)
    row, other = found["groups"][0]["rows"]
    failed = [cell for cell in found["cells"] if cell["outcome"] == "failed"]
    if not failed:
        pytest.fail("no seed of the twin's first stage was even: choose another rule")
    assert failed[0]["reason"] == "Training diverged." and failed[0]["final"] is None
    assert row["mean"] is None and row["better"] is None and row["failures"]
    assert other["mean"] is not None and other["better"] is None  # there is no twin to compare with
    text = _printed(found)
    assert "Training diverged." in text and "has no number" in text


def test_one_seed_has_numbers_and_no_interval(tmp_path, pool):
    found, _ = run(study(tmp_path, "static,twin", seeds=1))
    row = found["groups"][0]["rows"][0]
    assert row["mean"] is not None and row["iqm"] is not None and row["better"] is not None
    assert row["interval"] is None and row["iqm_interval"] is None and row["better_interval"] is None
    assert found["bands"][0]["points"][0][2] is None
    json.dumps(found, allow_nan=False)


def test_several_tasks_are_averaged_as_shares_of_the_largest_return(tmp_path):
    tasks = [tiny_settings(tmp_path), tiny_settings(tmp_path, run={"task": "spread?agents=2"})]
    settings = study(tmp_path, "twin,static", env_steps=1_000_000, tasks=tasks)
    value = {("static", "spread"): 10.0, ("static", "spread?agents=2"): 20.0}
    results = [
        CellResult(
            arm=cell.arm,
            task=cell.task,
            seed=cell.seed,
            outcome="done",
            env_steps=9,
            final=value.get((cell.arm, cell.task), 0.0) + cell.seed,
            curve=(
                Point(env_steps=3, sparse_return=0.0, progress=None),
                Point(env_steps=9, sparse_return=4.0, progress=None),
            ),
        )
        for cell in settings.cells
    ]
    found = report(settings, results, "made up")
    assert [group["title"] for group in found["groups"]] == ["spread", "spread?agents=2", "all tasks"]
    assert found["groups"][0]["rows"][1]["mean"] == 10.5
    assert found["groups"][2]["rows"][1]["mean"] == pytest.approx((10.5 + 20.5) / 2 / 25)
    assert found["groups"][2]["rows"][1]["better"] == 1.0
    points = found["bands"][0]["points"]
    assert points[0][1] == 0.0 and points[-2][1] == 0.0 and points[-1][1] == 4.0  # it stays where it was until then
    svg = draw(found)
    assert svg.startswith("<svg") and svg.count("<polyline") == 4 and "static" in svg
    text = _printed(found)
    assert all(len(line) <= 100 for line in text.splitlines())


@pytest.mark.parametrize(("lowest", "ticks"), [(0.0, ["0", "20"]), (-10.0, ["-20", "20"])])
def test_negative_returns_are_drawn_below_zero(lowest, ticks):
    points = [[0, lowest, None, None], [4e6, 10.0, None, None]]
    found = {
        "tasks": [{"task": "spread", "max_return": 25.0}],
        "arms": ["twin"],
        "env_steps": 4_000_000,
        "bands": [{"task": "spread", "arm": "twin", "points": points}],
    }
    svg = draw(found)
    shown = re.findall(r'text-anchor="end">([^<]+)<', svg)
    assert [shown[0], shown[-1]] == ticks
    (line,) = re.findall(r'<polyline points="([^"]+)"', svg)
    first, last = (float(point.split(",")[1]) for point in line.split())
    assert 0 < last < first <= 280 and (first == 280) == (lowest == 0), "a negative one lies on no edge"


def test_the_widest_table_fits_a_hundred_columns(tmp_path):
    row = {
        "arm": "evidence-off",
        "n": 10,
        "mean": -12.34,
        "interval": [-10.12, 12.34],
        "iqm": 12.34,
        "iqm_interval": [10.12, 14.56],
        "better": 0.55,
        "better_interval": [0.11, 0.99],
        "env_steps": 123.4e6,
        "evaluation_env_steps": 98.76e6,
        "promotions": 12,
        "rollbacks": 10,
        "compute_seconds": 3e6,
        "failures": [],
    }
    group = {"title": "spread", "unit": "sparse return", "rows": [row]}
    found = {"groups": [group], "cells": [], "seeds": [0, 1], "level": 0.95, "env_steps": 4, "baseline": "twin"}
    lines = _printed(found).splitlines()
    assert all(len(line) <= 100 for line in lines) and "…" not in "".join(lines)
    assert (
        "per run: evidence-off 98.76 M." in _printed(found)
        and "12 (-10)" in _printed(found)
        and "50000 min" in _printed(found)
    )


def _printed(found) -> str:
    console = Console(width=100)
    with console.capture() as capture:
        console.print(render_study(found, []))
    return capture.get()


def test_another_study_in_the_folder_is_refused(tmp_path, pool):
    run(study(tmp_path, "twin", seeds=1))
    run(study(tmp_path, "twin,static", seeds=2))  # more of the same study may be added
    with pytest.raises(StudyError, match="holds a study of 14 k env steps: give another folder"):
        run(study(tmp_path, "twin", seeds=1, env_steps=20_000))
    changed = [tiny_settings(tmp_path, branch_steps=600)]
    with pytest.raises(StudyError, match="with other settings"):
        run(study(tmp_path, "twin", seeds=1, tasks=changed))


def test_one_process_at_a_time_runs_a_study(tmp_path, pool):
    settings = study(tmp_path, "twin", seeds=1)
    with alone_in(settings.folder):
        with pytest.raises(StudyError, match="Another process runs the study in .*study: wait until it has ended"):
            run(settings)
        assert not (settings.folder / "manifest.json").exists()
    found, _ = run(settings)
    assert found["cells"][0]["outcome"] == "done"


@pytest.mark.parametrize(
    ("arms", "words"),
    [
        ("supervised,bogus", "Found the arm 'bogus', expected some of supervised, twin"),
        ("twin,twin", "Found the arm twin twice"),
        (" , ", "Found no arm"),
    ],
)
def test_wrong_arms_are_refused(arms, words):
    with pytest.raises(StudyError, match=words):
        parse_arms(arms)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--arms", "nobody"], "expected some of supervised"),
        (["--seeds", "0"], "Found --seeds 0, expected 1 to 1,000"),
        (["--env-steps", "many"], "Found --env-steps many"),
        (["--env-steps", "10", "--arms", "twin"], "Found 10 env steps for each run, expected at least one rollout"),
        (["--env-steps", "100k"], "Found 102,400 env steps for each run"),
        (["--env-steps", "100k", "--arms", "twin,usual,supervised"], "at least 1,942,400 for the arm supervised"),
        (["--task", "spread", "--task", "spread"], "Found the task spread twice"),
        (["--agent", "critic=random"], "The backend 'random' is for the generator alone"),
    ],
)
def test_the_command_refuses_in_one_sentence(options, words, capsys, tmp_path):
    assert command(["study", "--to", str(tmp_path), *options]) == 2
    said = capsys.readouterr().err
    assert words in " ".join(said.split()) and "Traceback" not in said


def test_the_command_runs_prints_and_draws(tmp_path, pool, capsys):
    config = tmp_path / "tiny.toml"
    config.write_text(
        "stage_steps = 600\nbranch_steps = 400\n[run.learner]\nhidden = [8]\nenvironments = 8\nepochs = 1\n"
        "minibatches = 1\n[run.evaluation]\nepisodes = 8\npoints = 2\n[deliberation]\ncandidates = 2\n"
    )
    options = [
        "study",
        "--arms",
        "twin,static",
        "--seeds",
        "2",
        "--env-steps",
        "14k",
        "--config",
        str(config),
        "--store",
        str(tmp_path / "segments"),
        "--to",
        str(tmp_path / "study"),
    ]
    assert command([*options, "--dry-run"]) == 0
    assert "successive halving" in capsys.readouterr().out and not (tmp_path / "study").exists()
    assert command(options) == 0
    printed = capsys.readouterr().out
    assert "P(> twin)" in printed and "static" in printed and "n = 2 seeds (0 to 1)" in printed
    assert (tmp_path / "study" / "study.svg").read_text().startswith("<svg")
    assert command([*options, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["arms"] == ["twin", "static"]


def test_the_random_generator_is_a_function_of_its_seed_and_its_brief():
    def proposed(seed, **brief):
        chat = Chat("generator", generator_brief(**brief))
        chat.client = RandomClient("generator", seed)
        chat.ask()
        return json.loads(chat.result.content[0].arguments)["candidates"]

    one = proposed(1)
    assert one == proposed(1) and one != proposed(2) and one != proposed(1, round=2)
    assert len(one) == 3 and all("random" in draft["rationale"] for draft in one)
    with pytest.raises(ValueError, match="only one that can be played at random"):
        RandomClient("critic")


@pytest.mark.parametrize("task", ["spread", "Foraging-8x8-2p-2f-coop-v3", "pursuit"])
def test_drawn_and_perturbed_shapings_are_valid_seeded_and_directed(task):
    spec = make_task(task, 1).spec
    signs = {feature.name: {"higher": 1, "lower": -1}.get(feature.direction) for feature in spec.features}
    drawn = [draw_for(spec, 0.1 * spec.max_return, np.random.default_rng(seed)) for seed in range(40)]
    assert drawn == [draw_for(spec, 0.1 * spec.max_return, np.random.default_rng(seed)) for seed in range(40)]
    assert len({each.hash() for each in drawn}) == 40
    for config in drawn:
        check(config, spec)
        for term in config.terms:
            sign = signs[term.potential.removeprefix("mean(").removesuffix(")")]
            assert sign is None or term.weight * sign > 0
    strong = ShapingConfig.parse(
        {"terms": [{"potential": spec.features[0].name, "weight": 10.0, "scope": spec.features[0].scope}], "beta": 10.0}
    )
    changed = [perturb(strong, np.random.default_rng(seed)) for seed in range(8)]
    assert {each.beta for each in changed} == {8.0, 10.0}  # the bound holds
