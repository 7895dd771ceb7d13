"""Action masks of a user's environment: both places, whoever acts, refusals, and what the check says."""

from __future__ import annotations

import numpy as np
import pytest

from learning_signal.marl.errors import EnvironmentFailed, EnvironmentRefused
from learning_signal.marl.randomness import episode_seeds
from learning_signal.marl.tasks import make_task
from learning_signal.marl.tasks.base import allowed_actions
from learning_signal.marl.tasks.foreign.contract import check_environment
from learning_signal.marl.tasks.foreign.task import Foreign
from learning_signal.marl.tasks.parallel import as_parallel_env
from learning_signal.viewer.reports.catalogue import render_tasks
from tests.support.masked_environments import LEAVES, STEPS, Doors

HERE = "tests.support.masked_environments:"
PLACES = ("observation", "infos")


def named(masks: str, **options: object) -> str:
    return f"{HERE}task?{'&'.join(f'{name}={value}' for name, value in {**options, 'masks': masks}.items())}"


@pytest.mark.parametrize("masks", PLACES)
def test_what_is_allowed_is_what_the_environment_says(masks):
    task, doors = make_task(named(masks), 1), Doors(masks)
    assert task.spec.masks_actions and task.spec.observation_size == 2
    assert [(group.name, group.actions) for group in task.spec.groups] == [("tall", 4), ("short", 3)]
    observations = task.reset(episode_seeds(0, 0, 1))
    seen, infos = doors.reset(task._copies._members[0]._moment[0])
    for time in range(STEPS):
        told = {agent: (seen if masks == "observation" else infos)[agent]["action_mask"] for agent in doors.agents}
        expected = np.zeros((2, 4), bool)
        expected[0] = told["tall"]
        expected[1, :3] = told["short"] if "short" in told else True
        assert (allowed_actions(task)[0] == expected).all()
        row = seen["tall"]["observation"] if masks == "observation" else seen["tall"]
        assert (observations[0, 0] == row).all()
        actions = task.heuristic()
        seen, _, _, _, infos = doors.step({agent: actions[0, k] + 2 * k for k, agent in enumerate(doors.agents)})
        step = task.step(actions)
        observations = step.observations
        assert step.alive[0].tolist() == [True, time + 1 < LEAVES]
    assert step.truncated[0] and (task.allowed() == [[[1, 1, 1, 1], [1, 1, 1, 0]]]).all()


def test_both_places_give_the_same_task():
    steps = []
    for masks in PLACES:
        task = make_task(named(masks), 3)
        task.reset(episode_seeds(4, 0, 3))
        steps.append([(task.allowed().copy(), task.step(task.heuristic())) for _ in range(STEPS)])
    for (one, first), (other, second) in zip(*steps, strict=True):
        assert (one == other).all() and all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_worker_processes_tell_the_same():
    one, shared = Foreign(5, named("infos"), workers=1), Foreign(5, named("infos"), workers=2)
    try:
        for task in (one, shared):
            task.reset(episode_seeds(1, 0, 5))
        for _ in range(STEPS):
            assert np.array_equal(one.allowed(), shared.allowed())
            actions = one.heuristic()
            assert np.array_equal(one.step(actions).reward, shared.step(actions).reward)
    finally:
        shared.close()


def test_an_environment_without_masks_has_none():
    task = make_task("tests.support.foreign_environments:Walk", 1)
    assert not task.spec.masks_actions and allowed_actions(task) is None
    assert allowed_actions(make_task("spread", 1)) is None


def test_a_forbidden_action_does_not_reach_the_environment():
    task = make_task(named("observation"), 2)
    task.reset(episode_seeds(0, 0, 2))
    while task.allowed()[1, 0].all():
        task.step(task.heuristic())
    actions = task.heuristic()
    actions[1, 0] = np.flatnonzero(~task.allowed()[1, 0])[0]
    with pytest.raises(ValueError, match=r"for agent 0, which its mask forbids, expected one of \["):
        task.step(actions)
    task.step(task.heuristic())


WRONG = {
    "nothing": "allows nothing at step 2 .*, expected at least one action",
    "short": r"is \[.*\] at step 2 .*, expected 4 numbers 0 or 1",
    "shares": r"is \[.*0.5.*\] at step 2 .*, expected 4 numbers 0 or 1",
    "late": "is missing from its (observation|info) at step 2 .*, expected one at every step",
}


@pytest.mark.parametrize("masks", PLACES)
@pytest.mark.parametrize("fault", WRONG)
def test_a_mask_that_cannot_be_read_is_one_sentence(masks, fault):
    task = make_task(named(masks, fault=fault), 1)
    task.reset(episode_seeds(0, 0, 1))
    task.step(task.heuristic())
    with pytest.raises(EnvironmentFailed, match=f"the action mask of tall of .* {WRONG[fault]}"):
        task.step(task.heuristic())
    (finding,) = [each for each in check_environment(named(masks, fault=fault), 2) if each.check == "masks"]
    assert finding.level == "error" and "The action mask of tall at step 2" in finding.message


@pytest.mark.parametrize("masks", PLACES)
def test_the_check_plays_by_the_masks_and_says_that_there_are_some(masks):
    name = named(masks)
    assert [each for each in check_environment(name, 3) if each.level == "error"] == []
    spec = make_task(name, 1).spec
    declared = {**vars(spec), "groups": [vars(group) for group in spec.groups]}
    shown = render_tasks([{**declared, "features": []}])
    text = "".join(str(cell) for cell in shown.renderables[1].renderable.renderables[0].columns[1].cells)
    assert "4 actions of which masks allow some" in text


@pytest.mark.parametrize("masks", PLACES)
def test_masks_of_numbers_are_refused(masks):
    with pytest.raises(EnvironmentRefused, match="masks the actions of tall, which are numbers, expected masks of"):
        make_task(f"{HERE}Slopes?masks={masks}", 1)


def test_without_masks_the_same_environment_cannot_be_played():
    """Negative control: nothing but the masks keeps random actions from the locked doors."""
    (finding,) = [each for each in check_environment(named("none"), 3) if each.level == "error"]
    assert "tried the locked door" in finding.message


def test_as_a_parallel_env_it_tells_its_masks_in_the_infos():
    env = as_parallel_env(named("observation"), seed=3)
    _, infos = env.reset()
    while env.agents:
        masks = {agent: infos[agent]["action_mask"] for agent in env.agents}
        assert [len(mask) for mask in masks.values()] == [4, 3][: len(masks)]
        assert all(mask.dtype == np.int8 and mask.any() for mask in masks.values())
        _, rewards, _, _, infos = env.step({agent: int(np.flatnonzero(mask)[0]) for agent, mask in masks.items()})
    assert len(rewards) == 1
