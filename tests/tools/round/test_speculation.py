"""The control is trained while the agents talk: early, once, and counted honestly."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future

import pytest

from learning_signal.agents.session.observer import SessionControl
from learning_signal.ledger.read.reader import Reader
from learning_signal.ledger.read.verify import verify
from learning_signal.marl.errors import SegmentImpossible
from learning_signal.marl.gate.recompute import recompute
from learning_signal.marl.shaping import ShapingConfig
from learning_signal.tools.plan.settings import DeliberationSettings, session_rules
from learning_signal.tools.round.speculation import settle
from learning_signal.tools.spending import spent_so_far
from learning_signal.tools.trainer import Trainer
from tests.support.scripted_session import ScriptedSession
from tests.support.session_helpers import Recorder, resume, resume_inline, run, run_inline, story, tiny_settings
from tests.support.synthetic_training import STAGE_STEPS, InlinePool
from tests.support.trainer_double import by_arm


class _WaitingPool(InlinePool):
    """Computes what is not urgent only when it is asked for as urgent; what never is waits until it is withdrawn."""

    def __init__(self, *given, **named) -> None:
        super().__init__(*given, **named)
        self.waiting, self.withdrawn = {}, []

    def submit(self, spec, urgent: bool = True):
        if not urgent and not self._store.has(spec.id):
            return self.waiting.setdefault(spec.id, (spec, Future()))[1]
        if spec.id in self.waiting:
            future = self.waiting.pop(spec.id)[1]
            future.set_result(super().submit(spec).result())
            return future
        return super().submit(spec)

    def withdraw(self, segment: str) -> bool:
        if segment not in self.waiting:
            return False
        self.withdrawn.append(segment)
        return self.waiting.pop(segment)[1].cancel()

    def cancel_all(self) -> None:
        for spec, future in self.waiting.values():
            if future.set_running_or_notify_cancel():
                future.set_exception(SegmentImpossible(f"Segment {spec.id} was cancelled."))


@pytest.fixture
def pools():
    """The pools that `waiting` has opened."""
    return []


def waiting(pools):
    """Opens one more of them over a store."""

    def opened(store):
        pools.append(_WaitingPool(store))
        return pools[-1]

    return opened


def events(ledger, kind: str) -> list[str]:
    with Reader.open(ledger) as reader:
        return [event.title for event in reader.events(kind=kind)]


def rows(ledger) -> list[dict]:
    with Reader.open(ledger) as reader:
        return reader.rows("SELECT id, status, env_steps, trained, reused, reason FROM segments ORDER BY id")


def test_with_and_without_it_a_session_is_the_same(tmp_path):
    settings = [tiny_settings(tmp_path / str(yes), speculate=yes) for yes in (True, False)]
    for each in settings:
        assert run_inline(each).status == "done"
    assert story(settings[0].ledger) == story(settings[1].ledger)
    assert len(events(settings[0].ledger, "speculation")) == 1
    assert events(settings[1].ledger, "speculation") == []


def test_the_control_begins_before_anybody_speaks(tmp_path):
    observer = Recorder()
    run_inline(tiny_settings(tmp_path), observer)
    titles = [row["title"] for row in observer.events]
    first_call = next(index for index, row in enumerate(observer.events) if row["kind"] == "llm_call")
    assert titles.index("confirm control: 400 env steps started") < first_call


def test_what_is_asked_for_becomes_urgent_and_is_computed_once(pools, tmp_path):
    settings = tiny_settings(tmp_path)
    assert run(settings, pool=waiting(pools)).status == "done"
    assert pools[0].waiting == {} and pools[0].withdrawn == []
    assert {row["status"] for row in rows(settings.ledger)} == {"ok"}


def test_what_nobody_uses_is_withdrawn_and_costs_nothing(pools, tmp_path, monkeypatch):
    """No candidate can be compared, so nothing is confirmed and the control of the confirmation is not needed."""
    monkeypatch.setenv("SYNTHETIC_WORLD", "candidates diverge")
    settings = tiny_settings(tmp_path)
    outcome = run(settings, pool=waiting(pools))
    assert outcome.status == "done" and len(pools[0].withdrawn) == 1
    lost = [row for row in rows(settings.ledger) if row["id"] in pools[0].withdrawn]
    assert {(row["status"], row["trained"]) for row in lost} == {("error", 0)}
    assert all("was withdrawn" in row["reason"] for row in lost)
    assert outcome.costs["env_steps_branches"] == settings.gate.screen_seeds * 200
    assert outcome.costs["env_steps_main"] == 2 * STAGE_STEPS
    assert events(settings.ledger, "speculation")[-1] == (
        "1 of 2 speculative segments was not used; 1 segment that had not begun was withdrawn"
    )
    with Reader.open(settings.ledger) as reader:
        assert verify(reader, recompute, session_rules) == []


def test_what_was_computed_for_nothing_is_counted(tmp_path, monkeypatch):
    monkeypatch.setenv("SYNTHETIC_WORLD", "candidates diverge")
    settings = tiny_settings(tmp_path)
    outcome = run_inline(settings)
    # The control of the screen, and its first branch of the confirmation that never came.
    assert outcome.costs["env_steps_branches"] == 200 + 400
    assert "pending" not in {row["status"] for row in rows(settings.ledger)}


def test_a_resume_begins_it_no_second_time(tmp_path):
    whole, cut = tiny_settings(tmp_path / "whole"), tiny_settings(tmp_path / "cut")
    run_inline(whole)
    control = SessionControl()
    observer = Recorder(on_event=lambda row: row["kind"] == "speculation" and control.request_pause())
    assert run_inline(cut, observer, control).status == "paused"
    assert resume_inline(cut).status == "done"
    assert story(cut.ledger) == story(whole.ledger)
    assert len(events(cut.ledger, "speculation")) == 1
    assert all(row["reused"] == 0 for row in rows(cut.ledger))


def test_nothing_stays_pending_when_a_round_ends_in_another_process(pools, tmp_path, monkeypatch):
    monkeypatch.setenv("SYNTHETIC_WORLD", "candidates diverge")
    settings, control = tiny_settings(tmp_path), SessionControl()
    observer = Recorder(on_event=lambda row: row["kind"] == "comparison" and control.request_pause())
    assert run(settings, observer, control, pool=waiting(pools)).status == "paused"
    outcome = resume(settings, pool=waiting(pools))
    assert outcome.status == "done" and "pending" not in {row["status"] for row in rows(settings.ledger)}
    assert outcome.costs["env_steps_branches"] == settings.gate.screen_seeds * 200


def test_a_branch_that_its_round_abandons_is_withdrawn_too(tmp_path):
    """As where the Validator is out of steps: what it launched is not trained for nothing, nor pending for ever."""
    with ScriptedSession(tmp_path, by_arm({})) as session:
        session.propose("coverage_distance", "collisions")
        session.pool.holding = True
        session.call("launch_branch", arm="c1", purpose="screen")
        with session.ledger.transaction("the round ends"):
            settle(session.context)
        session.pool.release()
        states = [(row["status"], row["trained"]) for row in session.rows("segments")]
    assert states == [("ok", None), ("error", 0)]
    assert len(session.pool.computed) == 1, "the stage alone"


@pytest.mark.parametrize(("stored", "trained"), [(False, None), (True, 200)])
def test_what_an_ended_process_left_behind_does_not_weigh_on_the_budget_of_later_rounds(tmp_path, stored, trained):
    with ScriptedSession(tmp_path, by_arm({})) as session:
        session.propose("coverage_distance", "collisions")
        session.pool.holding = True
        session.call("launch_branch", arm="c1", purpose="screen")
        if stored:
            session.pool.release()
        session.resume()
        before = spent_so_far(session.context)["env_steps"]
        with session.ledger.transaction("the round ends"):
            settle(session.context)
        left = [(row["status"], row["trained"]) for row in session.rows("segments")[1:]]
        after = spent_so_far(session.context)["env_steps"]
    assert left == [("error", trained)]
    assert (before, after) == (400, 400 if stored else 200)


def test_a_single_candidate_needs_no_screen(tmp_path):
    settings = tiny_settings(tmp_path, deliberation=DeliberationSettings(candidates=1, refinements=0))
    run_inline(settings)
    assert events(settings.ledger, "speculation")[0] == "the control starts early: 1 segment, 400 env steps"


@pytest.mark.parametrize("urgent", [False, True])
def test_a_segment_that_another_session_withdrew_is_asked_for_again_as_urgent_as_it_is(tmp_path, urgent):
    """Two sessions share a pool: one has no use for the segment any more, the other still has."""
    asked = []

    class _Shared:
        def submit(self, spec, urgent=True):
            asked.append((urgent, Future()))
            return asked[-1][1]

    async def launched(trainer):
        trainer.launch(trainer.spec(None, ShapingConfig.none(), 100, 0, "confirm"), "confirm", "control", urgent)
        await asyncio.sleep(0)
        asked[0][1].cancel()
        while len(asked) < 2:
            await asyncio.sleep(0.01)
        trainer.stop()

    with ScriptedSession(tmp_path, by_arm({})) as session:
        known = session.context.trainer
        trainer = Trainer(_Shared(), known.store, session.ledger, known.session, known.run)
        asyncio.run(asyncio.wait_for(launched(trainer), 10))
    assert [each for each, _ in asked] == [urgent, urgent]


def test_no_step_makes_the_task_anew_to_know_the_lengths(tmp_path, monkeypatch):
    """It is asked for before every step, and an environment of a user's own may take long to make."""

    def made(*given):
        raise AssertionError("a task was made")

    with ScriptedSession(tmp_path, lambda spec: (0.0, 0.0)) as session:
        before = session.context.branch_steps, session.context.rungs, session.context.stage_steps
        monkeypatch.setattr("learning_signal.marl.segments.segment.make_task", made)
        assert (session.context.branch_steps, session.context.rungs, session.context.stage_steps) == before
