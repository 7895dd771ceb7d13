"""When a round is worth its price, and what a session does where none is."""

from __future__ import annotations

import pytest

from learning_signal.agents.session.observer import SessionControl
from learning_signal.agents.session.plan import plan
from learning_signal.ledger.read.decision.explain import explain
from learning_signal.ledger.read.reader import Reader
from learning_signal.marl.gate.settings import GateSettings
from learning_signal.marl.tasks import make_task
from learning_signal.tools.plan.cost import round_cost, round_evaluation
from learning_signal.tools.plan.settings import DeliberationSettings, SessionSettings, TriggerSettings
from learning_signal.tools.trigger import Standing, no_trigger, trigger
from learning_signal.viewer.reports.explain import render_decision
from learning_signal.viewer.text import clean
from tests.support.session_helpers import Recorder, resume_inline, run_inline, story, tiny_settings

SPREAD = make_task("spread", 1).spec


def standing(**changes) -> Standing:
    """A main run that goes well: one round was had, and the last stage gained 2 of 25."""
    healthy = {
        "label": "improving",
        "measure": "sparse_return",
        "before": 3.0,
        "now": 5.0,
        "sparse_return": 5.0,
        "max_return": 25.0,
        "rounds": 1,
        "stages": 1,
        "rolled_back": False,
    }
    return Standing(**healthy | changes)


@pytest.mark.parametrize(
    ("changes", "reason", "said"),
    [
        ({"rounds": 0}, "first", "no round has run yet"),
        ({"rolled_back": True}, "after rollback", "only undid a promotion"),
        ({"label": "regressing"}, "regression", "went from 3 to 5"),
        ({"label": "plateau"}, "stall", "labelled plateau"),
        ({"label": "exploring"}, "stall", "labelled exploring"),
        ({"before": 4.6}, "stall", "from 4.6 to 5 in the last stage (+0.4), and a healthy stage gains 0.5"),
        ({"measure": "progress", "before": 0.1, "now": 0.11}, "stall", "(+0.01), and a healthy stage gains 0.02"),
    ],
)
def test_a_round_is_needed(changes, reason, said):
    found = trigger(standing(**changes), TriggerSettings())
    assert found.reason == reason and said in found.text


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"label": "emerging"},
        {"stages": 50},
        {"before": 4.4},
        {"measure": "progress", "before": 0.1, "now": 0.13, "label": "emerging"},
        {"label": "plateau", "before": 24.0, "now": 24.0, "sparse_return": 24.0},
    ],
)
def test_training_that_goes_well_or_is_done_needs_none(changes):
    assert trigger(standing(**changes), TriggerSettings()) is None
    assert no_trigger(standing(**changes), TriggerSettings())


def test_on_request_a_round_comes_at_the_latest_after_so_many_stages():
    settings = TriggerSettings(every=3)
    assert trigger(standing(stages=2), settings) is None
    assert trigger(standing(stages=3), settings).reason == "schedule"


def test_a_solved_task_that_regresses_needs_a_round():
    worse = standing(label="regressing", before=25.0, now=24.0, sparse_return=24.0)
    assert trigger(worse, TriggerSettings()).reason == "regression"


def test_the_price_of_a_round_by_hand():
    """Whole rollouts of 3,200: a screening branch of 64,000, a branch of a confirmation of 128,000.

    A sequential confirmation may take all its looks, and that is what a round is paid for in advance.
    """
    price = round_cost(SessionSettings(), SPREAD)
    assert price.first == (1 + 3) * 64_000 + 2 * 6 * 128_000
    assert price.most == price.first + 3 * 64_000 + 2 * 6 * 128_000
    paired = SessionSettings(gate=GateSettings(mode="paired"))
    price = round_cost(paired, SPREAD)
    assert price.first == (1 + 3) * 2 * 64_000 + 2 * 5 * 128_000
    assert price.most == price.first + 3 * 2 * 64_000 + 2 * 5 * 128_000
    alone = paired.model_copy(update={"deliberation": DeliberationSettings(candidates=1, refinements=0)})
    assert round_cost(alone, SPREAD).first == round_cost(alone, SPREAD).most == 2 * 5 * 128_000
    said = price.describe(150_400, round_evaluation(paired, SPREAD))
    assert "1.79 M env steps of training (3.46 M with every refinement), as much as 11.9 stages, and 243.2 k of" in said


# sessions -----------------------------------------------------------------------------------------


def told(ledger) -> list[str]:
    """What was said about the need of a round, in order."""
    with Reader.open(ledger) as reader:
        return [event.title for event in reader.events(kind="need")]


def test_a_session_whose_main_run_improves_has_one_round_and_all_its_stages(tmp_path):
    """Synthetic training gains 0.12 of progress in a shaped stage, and nothing to speak of without shaping."""
    settings = tiny_settings(tmp_path, rounds=3, stages=5)
    outcome = run_inline(settings)
    said = told(settings.ledger)
    assert said[0].startswith("round 1: first: no round has run yet") and "a round costs" in said[0]
    assert [each[:12] for each in said[1:]] == ["no round now"] * 4
    assert said[-1] == "no round now: this was the last of 5 stages"
    assert outcome.status == "done" and len(outcome.promoted) == 1
    with Reader.open(settings.ledger) as reader:
        assert len(reader.decisions()) == 1
        stages = [each for each in reader.main_run() if each.reason == "stage"]
        assert len(stages) == 5 and len({each.segment.id for each in stages}) == 5
        (chain,) = [explain(reader, "R1")]
    assert chain.need.title == said[0]
    shown = [clean(str(part)) for part in render_decision(chain).renderables]
    assert "Why a round now" in shown


def test_every_stage_has_its_round_where_that_is_asked_for(tmp_path):
    settings = tiny_settings(tmp_path, rounds=2, trigger=TriggerSettings(every=1))
    outcome = run_inline(settings)
    reasons = [title.split(": ")[1] for title in told(settings.ledger)]
    assert reasons == ["first", "schedule", "all 2 are used up"]
    assert outcome.status == "done"


def test_a_run_that_stalls_has_all_its_rounds(tmp_path, monkeypatch):
    monkeypatch.setenv("SYNTHETIC_WORLD", "nothing helps")
    settings = tiny_settings(tmp_path, rounds=2)
    run_inline(settings)
    assert [title.split(": ")[1] for title in told(settings.ledger)] == ["first", "stall", "all 2 are used up"]


def test_after_a_roll_back_the_next_stage_ends_in_a_round(tmp_path, monkeypatch):
    monkeypatch.setenv("SYNTHETIC_WORLD", "regresses")
    settings = tiny_settings(tmp_path, rounds=3)
    run_inline(settings)
    assert [title.split(": ")[1] for title in told(settings.ledger)][:3] == ["first", "regression", "after rollback"]


def test_a_roll_back_after_the_last_stage_ends_the_session(tmp_path, monkeypatch):
    monkeypatch.setenv("SYNTHETIC_WORLD", "regresses")
    settings = tiny_settings(tmp_path, rounds=3, stages=2)
    assert run_inline(settings).status == "done"
    with Reader.open(settings.ledger) as reader:
        assert [each.action for each in reader.decisions()] == ["promote", "roll_back"]


def test_agents_are_told_why_now(tmp_path):
    settings = tiny_settings(tmp_path)
    run_inline(settings)
    with Reader.open(settings.ledger) as reader:
        messages = [reader.entry(event.seq).messages[0] for event in reader.events(kind="message")]
    briefs = [message["body"] for message in messages if message["type"] == "task"]
    critic, *_, coordinator = briefs
    assert critic.startswith("Diagnose") and coordinator.startswith("Decide")
    assert all('"why_now":{"reason":"first"' in each for each in (critic, coordinator))


def test_a_resumed_session_needs_the_same_rounds(tmp_path):
    whole, cut = (tiny_settings(tmp_path / name, rounds=2, stages=4) for name in ("whole", "cut"))
    run_inline(whole)
    control = SessionControl()
    for kind in ("stage", "decision"):
        observer = Recorder(on_event=lambda row, kind=kind, stop=control: row["kind"] == kind and stop.request_pause())
        if not cut.ledger.exists():
            assert run_inline(cut, observer, control).status == "paused"
        else:
            assert resume_inline(cut, observer=observer, control=control).status == "paused"
        control = SessionControl()
    assert resume_inline(cut).status == "done"
    assert story(cut.ledger) == story(whole.ledger)
    assert told(cut.ledger) == told(whole.ledger)


def test_the_plan_counts_stages_rounds_and_the_twin(tmp_path):
    settings = tiny_settings(tmp_path, rounds=2, stages=7, twin=True)
    steps, price = plan(settings)["env_steps"], round_cost(settings, SPREAD)
    assert steps["main_run_at_most"] == 7 * steps["stage"]
    assert steps["branches_at_most"] == 2 * price.limit and steps["round_at_most"] == price.first
    assert steps["sparse_twin_at_most"] == steps["main_run_at_most"] + steps["branches_at_most"]
    assert steps["total_at_most"] == 2 * steps["sparse_twin_at_most"]
