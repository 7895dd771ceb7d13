"""Behaviour evidence of the shipped tasks: a scripted policy that knows what it does, and one that draws at random."""

from __future__ import annotations

import numpy as np
import pytest

from learning_signal.agents.tokens import estimate_tokens
from learning_signal.marl.behaviour.episode import episode_of, find_episode
from learning_signal.marl.behaviour.summary import BehaviourSummary, summarize
from learning_signal.marl.behaviour.text import render
from learning_signal.marl.behaviour.words.episode import render_episode
from learning_signal.marl.segments.records import BehaviourRecord
from learning_signal.marl.tasks import make_task
from learning_signal.marl.tasks.base import declared_progress

FORAGING = "Foraging-10x10-3p-3f-v3"
EPISODES = 48
MOST_TOKENS = 2000


def played(name: str, random_share: float, seed: int = 0) -> BehaviourRecord:
    """Episodes of the scripted policy, with a share of random actions; steps after the first end do not count."""
    task, rng = make_task(name, EPISODES), np.random.default_rng(seed)
    spec, steps = task.spec, min(task.spec.horizon, 100)
    task.reset(np.arange(EPISODES, dtype=np.uint64))
    scopes = {feature.name: (spec.agents,) if feature.scope == "agent" else () for feature in spec.features}
    features = {k: np.full((steps + 1, EPISODES, *scope), np.nan, np.float32) for k, scope in scopes.items()}
    actions = np.full((steps, EPISODES, spec.agents), -1, np.int8)
    rewards, progress = np.full((steps, EPISODES), np.nan, np.float32), np.full((steps + 1, EPISODES), np.nan)
    active, lengths = np.ones(EPISODES, bool), np.zeros(EPISODES, np.int64)

    def note(t: int) -> None:
        for key, values in task.features().items():
            features[key][t, active] = values[active]
        progress[t, active] = declared_progress(task)[active]

    note(0)
    for t in range(steps):
        wanted = task.heuristic()
        assert wanted is not None
        drawn = rng.integers(0, spec.actions, wanted.shape)
        joint = np.where(rng.random(wanted.shape) < random_share, drawn, wanted)
        step = task.step(joint)
        actions[t, active], rewards[t, active] = joint[active], step.reward[active]
        lengths += active
        note(t + 1)
        active &= ~(step.terminated | step.truncated)
        if not active.all():
            task.reset(np.arange(EPISODES, dtype=np.uint64), step.terminated | step.truncated)
    returns = np.nansum(rewards, axis=0).astype(np.float64)
    return BehaviourRecord(
        name, features, actions, rewards, progress, lengths, returns, np.nanmean(progress[1:], axis=0)
    )


def told(name: str, random_share: float) -> BehaviourSummary:
    return summarize(played(name, random_share), make_task(name, 1).spec)


def test_a_scripted_forager_loads_beside_food_and_a_random_one_everywhere() -> None:
    [scripted], [random] = told(FORAGING, 0.1).action_use, told(FORAGING, 1.0).action_use
    load = scripted.uses[-1]
    beside = next(one for one in scripted.contrasts if one.feature == "beside_food")
    assert (load.action, load.depends) == ("load", "clearly") and beside.there[-1] > 0.7 and beside.elsewhere[-1] < 0.1
    assert all(use.feature is None for use in random.uses), "nothing depends on anything beyond chance"
    assert random.uses[-1].value == pytest.approx(1 / 6, abs=0.02)


def test_near_food_is_told_from_what_eating_leaves_behind() -> None:
    summary = told(FORAGING, 0.5)
    lifting = next(each for each in summary.features if each.name == "lifting_distance")
    assert lifting.before_first is not None and lifting.before_first.value < -0.4
    assert (
        lifting.with_return.episode_mean is not None and lifting.with_return.episode_mean > lifting.before_first.value
    )


@pytest.mark.parametrize("name", ["spread", "pursuit", FORAGING, "rware-tiny-2ag-v2", "overcooked"])
def test_the_default_fits_and_an_episode_is_told(name: str) -> None:
    record, spec = played(name, 0.4), make_task(name, 1).spec
    text = render(summarize(record, spec), MOST_TOKENS, estimate_tokens)
    assert estimate_tokens(text) <= MOST_TOKENS and '"features":' in text
    for which in ("best", "median", "worst"):
        episode = render_episode(episode_of(record, spec, find_episode(record, which)), MOST_TOKENS, estimate_tokens)
        assert estimate_tokens(episode) <= MOST_TOKENS
