"""What a session refuses before it starts, and what it says because it limits a session."""

from __future__ import annotations

from dataclasses import replace

import pytest

from learning_signal.agents.session.plan import plan
from learning_signal.ledger.read.reader import Reader
from learning_signal.marl.tasks import make_task
from learning_signal.tools.plan.settings import SessionSettings
from learning_signal.tools.plan.suitability import Unsuitable, refuse_unsuitable, remarks
from tests.support.session_helpers import Recorder, run_inline, tiny_settings

SPREAD = make_task("spread", 1).spec


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"max_return": None}, "declares no max_return, and the gate's thresholds are fractions of it: declare"),
        ({"max_return": -3.0}, "declares a max_return of -3, expected one above 0"),
        ({"features": ()}, "declares no features, and shaping is made of them: declare some"),
    ],
)
def test_a_task_that_cannot_be_judged_or_shaped_is_refused(changes, sentence):
    with pytest.raises(Unsuitable, match=sentence):
        refuse_unsuitable(SessionSettings(), replace(SPREAD, **changes))
    refuse_unsuitable(SessionSettings(), SPREAD)


def test_a_rollout_shorter_than_an_episode_is_refused_before_it_is_trained():
    settings = SessionSettings.model_validate({"run": {"learner": {"rollout_steps": 24}}})
    with pytest.raises(Unsuitable, match="Found rollout_steps 24, expected at least 25, the longest episode of spread"):
        refuse_unsuitable(settings, SPREAD)


def test_nothing_is_written_for_a_refused_session(tmp_path):
    settings = tiny_settings(tmp_path)
    learner = settings.run.learner.model_copy(update={"rollout_steps": 1})
    settings = settings.model_copy(update={"run": settings.run.model_copy(update={"learner": learner})})
    for attempt in (lambda: run_inline(settings), lambda: plan(settings)):
        with pytest.raises(Unsuitable):
            attempt()
    assert not settings.ledger.exists()


def test_what_limits_a_session_is_said():
    assert remarks(SessionSettings(), SPREAD) == []
    [silent] = remarks(SessionSettings(), replace(SPREAD, progress=None))
    assert "declares no progress: while sparse returns are below 0.5, every verdict is inconclusive" in silent
    blind = replace(SPREAD, features=tuple(replace(feature, direction=None) for feature in SPREAD.features))
    assert "No feature of spread has a direction" in remarks(SessionSettings(), blind)[0]
    assert remarks(SessionSettings(), replace(SPREAD, features=(*blind.features[1:], SPREAD.features[0]))) == []


def test_a_screen_of_hardly_any_updates_is_said_at_the_start_and_in_the_plan(tmp_path):
    settings = tiny_settings(tmp_path)  # rollouts of 200 env steps, screens of half of 400
    found = "A screening branch is 200 env steps, only one update of 200 env steps"
    assert found in plan(settings)["remarks"][0]["remark"]
    observer = Recorder()
    run_inline(settings, observer)
    with Reader.open(settings.ledger) as reader:
        assert any(found in event.title for event in reader.events(kind="session"))
    assert any(found in row["title"] for row in observer.events)
    assert remarks(settings.model_copy(update={"branch_steps": 1600}), SPREAD) == []
