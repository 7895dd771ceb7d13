"""Where agents are in a task's pictures, and what its features would be if one were elsewhere."""

from __future__ import annotations

import numpy as np
import pytest

from learning_signal.marl.randomness import episode_seeds
from learning_signal.marl.tasks import make_task

PLANES = ("spread", "pursuit")
BOARDS = ("Foraging-8x8-3p-3f-v3", "rware-tiny-3ag-easy-v2", "overcooked?layout=asymmetric_advantages")


def begun(name: str, copies: int, steps: int = 0):
    """Copies of one episode after some random steps."""
    task, random = make_task(name, copies), np.random.default_rng(3)
    task.reset(np.full(copies, episode_seeds(5, 0, 1)[0], np.uint64))
    for _ in range(steps):
        task.step(np.repeat(random.integers(0, task.spec.actions, (1, task.spec.agents)), copies, axis=0))
    return task


@pytest.mark.parametrize("name", PLANES + BOARDS)
def test_agents_are_where_they_are_drawn(name):
    task = begun(name, 1, steps=7)
    discs = {(each.x, each.y) for each in task.draw(0).shapes if each.colour == "agent"}
    assert {tuple(task.places(agent)[0].tolist()) for agent in range(task.spec.agents)} == discs


@pytest.mark.parametrize("name", PLANES + BOARDS)
def test_where_an_agent_is_nothing_changes_and_after_a_look_elsewhere_nothing_has(name):
    task = begun(name, 4, steps=7)
    state, features = task.state(), task.features()
    for agent in range(task.spec.agents):
        here, can_be = task.features_at(agent, task.places(agent))
        assert can_be.all() and all(np.array_equal(here[each], features[each]) for each in features)
        middles = task.ground.middles()[[0, 7, 40, -1]]
        task.features_at(agent, middles)
        assert np.array_equal(task.state(), state)
        assert all(np.array_equal(task.features()[each], features[each]) for each in features)
    stepped, never_looked = task, begun(name, 4, steps=7)
    actions = np.ones((4, task.spec.agents), np.int64)
    assert np.array_equal(stepped.step(actions).observations, never_looked.step(actions).observations)


@pytest.mark.parametrize("name", BOARDS)
def test_features_elsewhere_are_those_of_an_agent_that_walked_there(name):
    walked = looked_at = 0
    for steps in range(45):
        before, after = begun(name, 1, steps), begun(name, 1, steps)
        actions = np.full((1, before.spec.agents), before.spec.idle_action)
        actions[0, 0] = 1  # north; forward; south
        reward = after.step(actions).reward[0]
        if np.array_equal(before.places(0), after.places(0)) or reward:
            continue
        walked += 1
        found, can_be = before.features_at(0, after.places(0))
        looked_at += bool(can_be[0])
        assert can_be[0] and all(np.array_equal(found[each], value) for each, value in after.features().items())
    assert walked == looked_at > 5


def test_features_elsewhere_in_the_plane_are_the_distances_from_there():
    task = begun("spread", 2, steps=4)
    landmarks = np.array([(each.x, each.y) for each in task.draw(0).shapes if each.colour in ("goal", "done")])
    others = np.stack([task.places(agent)[0] for agent in (1, 2)])
    places = np.array([[0.4, 2.1], [1.9, 0.3]])
    found, can_be = task.features_at(0, places)
    assert can_be.all()
    for row, place in enumerate(places):
        agents = np.concatenate([[place], others])
        apart = np.linalg.norm(agents[:, None] - landmarks, axis=2)
        assert found["coverage_distance"][row] == pytest.approx(apart.min(axis=0).sum(), rel=1e-6)
        assert found["nearest_landmark_distance"][row] == pytest.approx(apart.min(axis=1), rel=1e-6)


def test_an_agent_cannot_be_in_a_food_or_in_another_agent():
    task = make_task("Foraging-8x8-2p-2f-coop-v3", 64)
    task.reset(np.full(64, episode_seeds(5, 0, 1)[0], np.uint64))
    _, can_be = task.features_at(0, task.ground.middles())
    taken = {(each.x, each.y) for each in task.draw(0).shapes if each.colour == "goal"}
    taken.add(tuple(task.places(1)[0].tolist()))
    assert {tuple(place) for place in task.ground.middles()[~can_be].tolist()} == taken


def test_a_robot_with_a_shelf_cannot_be_where_a_shelf_is():
    name, bare = "rware-tiny-1ag-easy-v2", []
    for steps in range(80):
        task = make_task(name, 110)
        task.reset(np.full(110, episode_seeds(1, 0, 1)[0], np.uint64))
        for _ in range(steps):
            task.step(task.heuristic())
        _, can_be = task.features_at(0, task.ground.middles())
        holds = task.features(["holds_requested"])["holds_requested"][0, 0]
        assert can_be.all() == (not holds)
        if holds:
            walls = {(each.x, each.y) for each in task.draw(0).shapes if each.colour in ("wall", "goal")}
            barred = {tuple(place) for place in task.ground.middles()[~can_be].tolist()}
            assert barred == walls - {tuple(task.places(0)[0].tolist())}
            bare.append(steps)
        if len(bare) == 3:
            break
    assert len(bare) == 3
