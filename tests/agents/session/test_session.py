"""Whole sessions that go well: from the first segment to the report, their twin, and who approves."""

from __future__ import annotations

import json

import pytest

from bench.session import attributed
from learning_signal.agents.session.plan import plan
from learning_signal.ledger.read.decision.explain import explain
from learning_signal.ledger.read.forecasts import forecasts_of
from learning_signal.ledger.read.reader import Reader
from learning_signal.ledger.read.verify import verify
from learning_signal.marl.gate.recompute import recompute
from learning_signal.marl.gate.settings import GateSettings
from learning_signal.marl.segments.segment import SegmentStore
from learning_signal.marl.shaping import ShapingConfig
from learning_signal.tools.context import HumanAnswer
from learning_signal.tools.plan.settings import session_rules
from tests.support.session_helpers import RUN, Recorder, state_of, story, tiny_settings
from tests.support.session_helpers import run_inline as run
from tests.support.synthetic_training import STAGE_STEPS

SET = 8 * 25
"""Env steps of a set of episodes."""
EVERY_TABLE = (
    "sessions",
    "agents",
    "cursors",
    "events",
    "messages",
    "llm_calls",
    "tool_calls",
    "segments",
    "main_run",
    "metrics",
    "evaluations",
    "diagnoses",
    "proposals",
    "candidates",
    "branches",
    "branch_segments",
    "comparisons",
    "verdicts",
    "decisions",
)


def sound(ledger) -> None:
    """Every hash, chain and statistic of the ledger is as computed anew."""
    with Reader.open(ledger) as reader:
        assert verify(reader, recompute, session_rules) == []


def test_with_rules_and_real_training_from_end_to_end(tmp_path):
    settings, observer = tiny_settings(tmp_path, stage_steps=200), Recorder()
    outcome = run(settings, observer, pool=None)
    assert (outcome.status, outcome.stop_reason) == ("done", None)
    sound(settings.ledger)
    with Reader.open(settings.ledger) as reader:
        for table in EVERY_TABLE:
            assert reader.rows(f"SELECT 1 FROM {table} LIMIT 1"), table
        segments, costs = reader.segments(), reader.costs()
        head = reader.lineage()[-1]
        assert {each.status for each in segments.values()} == {"ok"}
        assert costs.env_steps_main + costs.env_steps_branches == sum(each.env_steps for each in segments.values())
        assert costs.env_steps_main == sum(each.env_steps for each in reader.lineage())
        assert costs.tokens_in > 0 and costs.cost_usd == 0  # rules are free
        in_force = state_of(reader).head.shaping
    assert outcome.after["env_steps"] == head.end_env_steps
    assert outcome.after["total_env_steps"] == costs.env_steps_main + costs.env_steps_branches
    played = sum(each.evaluation_env_steps for each in segments.values())
    assert outcome.after["evaluation_env_steps"] == costs.evaluation_main + costs.evaluation_branches == played > 0
    assert costs.evaluation_unknown == 0 and costs.evaluation_twin is None
    assert len(outcome.promoted) + len(outcome.rejected) == 2
    store = SegmentStore(settings.store)
    with open(outcome.final_policy, "rb") as policy:
        assert policy.read() == store.checkpoint_path(head.id).read_bytes()
    with open(outcome.final_shaping, encoding="utf-8") as shaping:
        assert ShapingConfig.from_toml(shaping.read()) == in_force
    assert json.loads(json.dumps(outcome.to_dict()))["session_id"] == outcome.session_id
    assert observer.stages[-1]["phase"] == "done"
    assert observer.progressed and all(0 < done <= total for _, _, _, done, total, _ in observer.progressed)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_session_in_another_place(tmp_path):
    settings = [tiny_settings(tmp_path / name, stage_steps=200) for name in ("here", "there")]
    for each in settings:
        run(each, pool=None)
    assert story(settings[0].ledger) == story(settings[1].ledger)


def test_the_same_seed_decides_the_same_and_another_seed_does_not(tmp_path):
    stories = []
    for name, seed in (("first", 0), ("second", 0), ("other", 1)):
        settings = tiny_settings(tmp_path / name, seed=seed)
        outcome = run(settings)
        assert outcome.promoted and outcome.rejected
        stories.append(story(settings.ledger))
    first, second, other = stories
    assert first == second
    assert first["head"].segment != other["head"].segment


def test_over_the_same_store_nothing_is_computed_twice(tmp_path):
    first = run(tiny_settings(tmp_path, twin=True))
    again = run(tiny_settings(tmp_path, twin=True, ledger=tmp_path / "other.db"))
    assert first.costs["env_steps_reused"] == 0
    assert again.costs["env_steps_main"] == again.costs["env_steps_branches"] == 0
    assert again.costs["env_steps_reused"] == 2 * first.after["total_env_steps"]  # the session's and its twin's
    for part in ("promoted", "rejected", "before", "after", "twin"):
        assert getattr(first, part) == getattr(again, part), part


def test_the_twin_trains_unshaped_for_everything_the_session_spent(tmp_path):
    settings = tiny_settings(tmp_path, twin=True)
    outcome, alone = run(settings), run(tiny_settings(tmp_path / "alone"))
    spent = alone.costs["env_steps_main"] + alone.costs["env_steps_branches"]
    assert alone.twin is None
    assert outcome.twin["env_steps"] == outcome.after["total_env_steps"] == spent
    assert (outcome.costs["env_steps_main"], outcome.costs["env_steps_branches"]) == (
        alone.costs["env_steps_main"],
        alone.costs["env_steps_branches"],
    )
    assert (outcome.costs["env_steps_twin"], alone.costs["env_steps_twin"]) == (spent, 0)
    assert outcome.twin["progress"] < outcome.after["progress"]
    with Reader.open(settings.ledger) as reader:
        twin = {event.ref_id for event in reader.events(kind="segment") if event.phase == "twin"}
        trained = [each for each in reader.segments().values() if each.id in twin]
        assert {json.dumps(each.shaping["terms"]) for each in trained} == {"[]"}
        assert sum(each.env_steps for each in trained) == reader.costs().env_steps_twin == spent


def test_every_event_is_observed_in_order(tmp_path):
    settings, observer = tiny_settings(tmp_path), Recorder()
    run(settings, observer)
    with Reader.open(settings.ledger) as reader:
        written = [event.seq for event in reader.events()]
    seen = list(dict.fromkeys(row["seq"] for row in observer.events))
    assert seen == written[1:]  # the first is written before anybody watches
    assert {row["status"] for row in observer.events[-3:]} == {"ok"}


# people -------------------------------------------------------------------------------------------


def test_a_person_rejects_a_promotion(tmp_path):
    observer = Recorder(answer=HumanAnswer(approved=False, reason="not before the weekend"))
    settings = tiny_settings(tmp_path, approve="human")
    outcome = run(settings, observer)
    (question,) = observer.questions
    assert question.verdict.outcome == "pass"
    with Reader.open(settings.ledger) as reader:
        (decision,) = reader.decisions()
        (approval,) = reader.events(kind="approval")
    assert (decision.action, decision.decided_by) == ("keep", "human")
    assert "not before the weekend" in decision.reason
    assert (approval.agent, approval.status) == ("human", "refused")
    assert outcome.promoted == []
    assert "not before the weekend" in outcome.rejected[0]["reason"]
    sound(settings.ledger)


def test_a_person_approves_a_promotion(tmp_path):
    observer = Recorder(answer=HumanAnswer(approved=True, reason="go"))
    settings = tiny_settings(tmp_path, approve="human")
    assert len(run(settings, observer).promoted) == 1
    with Reader.open(settings.ledger) as reader:
        assert [each.decided_by for each in reader.decisions()] == ["human"]


def test_the_bench_attributes_every_instant_once():
    groups = [[(2, 4), (3, 5)], [(0, 1), (4.5, 6)], [(-5, 8)], [(0, 10)]]
    assert attributed(0, 10, groups) == [3.0, 2.0, 3.0, 2.0]


# settings -----------------------------------------------------------------------------------------


def test_a_wrong_task_is_refused_before_anything_is_written(tmp_path):
    settings = tiny_settings(tmp_path, run=RUN.model_copy(update={"task": "nosuch"}))
    with pytest.raises(ValueError, match="nosuch"):
        run(settings)
    assert not settings.ledger.exists()


def test_the_outcome_is_reported_on_its_own_episodes_and_tells_how_the_forecasts_came_out(tmp_path):
    outcome = run(tiny_settings(tmp_path, twin=True))
    store = SegmentStore(tmp_path / "segments")
    with Reader.open(tmp_path / "ledger.db") as reader:
        head, forecasts = reader.main_run()[-1].segment.id, forecasts_of(reader, "latest")
    reported, used = (store.load_result(head).evaluations_of(name)[-1] for name in ("report", "confirm"))
    assert outcome.after["sparse_return"] == reported.sparse_return and outcome.after["progress"] != used.mean_progress
    assert {each["episode_set"] for each in (outcome.before, outcome.after, outcome.twin)} == {"report"}
    (record,) = outcome.forecasts
    assert (record["role"], record["backend"]) == ("generator", "rules")
    scored = [(each.probability - each.came_true) ** 2 for each in forecasts if each.came_true is not None]
    assert record["n"] == len(scored) > 0 and record["brier"] == pytest.approx(sum(scored) / len(scored))


def test_stages_are_whole_rollouts_as_the_plan_says(tmp_path):
    settings = tiny_settings(tmp_path, stage_steps=1)
    assert run(settings).before["env_steps"] == plan(settings)["env_steps"]["stage"] == 200
    settings = tiny_settings(
        tmp_path / "whole", gate=GateSettings(mode="paired")
    )  # as many branches, whatever they show
    outcome, most, evaluation = run(settings), plan(settings)["env_steps"], plan(settings)["evaluation_env_steps"]
    assert outcome.before["env_steps"] == most["stage"] == STAGE_STEPS
    assert outcome.costs["env_steps_main"] + outcome.costs["env_steps_branches"] <= (
        most["main_run_at_most"] + most["branches_at_most"]
    )
    with Reader.open(settings.ledger) as reader:
        segments = reader.segments().values()
    stages = [each for each in segments if each.purpose == "main" and each.env_steps]
    assert {each.evaluation_env_steps for each in stages} == {evaluation["stage"]}
    of_branches = sum(each.evaluation_env_steps for each in segments if each.env_steps and each not in stages)
    moved = 2 * SET  # the query and the report episodes of the branch that HEAD moved to
    assert of_branches + moved == evaluation["round_at_most"] == evaluation["branches_at_most"], "without a refinement"
    looks = evaluation["agents_look_at_branches_at_most"]
    assert 0 < sum(each.evaluation_env_steps for each in segments if not each.env_steps) <= moved + looks
    assert evaluation["total_at_most"] == evaluation["main_run_at_most"] + of_branches + moved + looks


@pytest.mark.parametrize("changes", [{}, {"deliberation": {"candidates": 3, "refinements": 1}, "twin": True}])
def test_no_session_plays_more_than_the_plan_says(tmp_path, changes):
    settings = tiny_settings(tmp_path, **changes)
    outcome, most = run(settings), plan(settings)["evaluation_env_steps"]
    with Reader.open(settings.ledger) as reader:
        segments, chain = list(reader.segments().values()), explain(reader)

    def played(purposes: tuple[str, ...], late: bool = False) -> int:
        of = [each for each in segments if each.purpose in purposes and (not each.env_steps) == late]
        return sum(each.evaluation_env_steps for each in of)

    assert played(("main",)) % most["stage"] == 0 and played(("main",)) <= most["main_run_at_most"]
    assert 0 < played(("screen", "confirm")) <= most["branches_at_most"] - 2 * SET
    assert 0 < played(("main",), late=True) <= 2 * SET, "HEAD moved once"
    assert 0 < played(("screen", "confirm"), late=True) <= most["agents_look_at_branches_at_most"]
    assert sum(each.evaluation_env_steps for each in chain.late) == played(("main", "screen", "confirm"), late=True)
    assert played(("twin",)) <= most["sparse_twin_at_most"]
    whole = outcome.after["evaluation_env_steps"] + (outcome.twin or {}).get("evaluation_env_steps", 0)
    assert whole == sum(each.evaluation_env_steps for each in segments) <= most["total_at_most"]


def test_a_control_plays_no_query_episodes_before_head_moves_to_it(tmp_path, monkeypatch):
    """Its branches play what the gate compares; the end that HEAD moves to is looked at and reported then."""
    monkeypatch.setenv("SYNTHETIC_WORLD", "nothing helps")
    alone = {"candidates": 1, "refinements": 0, "behaviour": False}  # and nobody looks at a branch
    settings, moved = tiny_settings(tmp_path, deliberation=alone), []

    def watch(event):
        if event["kind"] == "decision":
            with Reader.open(settings.ledger) as reader:
                head = reader.main_run()[-1].segment.id
                moved.append({each.episode_set for each in reader.evaluations("latest", head)})

    run(settings, Recorder(on_event=watch))
    sound(settings.ledger)
    with Reader.open(settings.ledger) as reader:
        stage, kept, last = (move.segment for move in reader.main_run())
        sets = {each.id: {e.episode_set for e in reader.evaluations("latest", each.id)} for each in (stage, kept, last)}
        others = [
            {e.episode_set for e in reader.evaluations("latest", each.id)}
            for each in reader.segments().values()
            if each.purpose in ("screen", "confirm") and each.id != kept.id
        ]
        late = [each for each in reader.segments().values() if each.parent == kept.id and not each.env_steps]
    assert moved == [{"confirm"}], "when it was decided"
    assert sets[kept.id] == {"confirm", "query", "report"} and sets[stage.id] == sets[last.id]
    assert others and all(len(each) == 1 for each in others)
    assert [(each.purpose, each.evaluation_env_steps) for each in late] == [("main", SET)] * 2
