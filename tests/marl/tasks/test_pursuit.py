"""The task `pursuit`: against its reference step for step, the evader's script, purity, features and the heuristic."""

from __future__ import annotations

import importlib
import os

import numpy as np
import pytest
from scipy.stats import ks_2samp

from learning_signal.marl.randomness import episode_seeds
from learning_signal.marl.tasks import particles, pursuit
from learning_signal.marl.tasks.pursuit import HORIZON, Pursuit


def reference_module():
    """mpe2's simple_tag: a development dependency, so its absence fails in CI and skips elsewhere."""
    if os.environ.get("CI"):
        return importlib.import_module("mpe2.simple_tag_v3")
    return pytest.importorskip("mpe2.simple_tag_v3")


def reference(pursuers=3, obstacles=2):
    env = reference_module().parallel_env(
        num_good=1, num_adversaries=pursuers, num_obstacles=obstacles, max_cycles=HORIZON, continuous_actions=False
    )
    env.reset(seed=0)
    return env, env.aec_env.unwrapped.world


# --- policies: a task -> actions [E, A] ---


def random_policy(seed=0):
    generator = np.random.default_rng(seed)
    return lambda task: generator.integers(0, 5, (task.environments, task.spec.agents))


def chase_policy(task):
    return task.heuristic()


def mixed_policy(seed=0):
    """The heuristic, where one action in five is a random one."""
    generator, play = np.random.default_rng(seed), random_policy(seed)
    return lambda task: np.where(
        generator.random((task.environments, task.spec.agents)) < 0.2, play(task), task.heuristic()
    )


def lone_policy(task):
    """One pursuer chases, the others stay where they are."""
    actions = task.heuristic()
    return np.where(np.arange(task.spec.agents) == 0, actions, 0)


def returns_of(task, policy, seed=1):
    """Sparse returns [E] of one whole episode per environment."""
    task.reset(episode_seeds(seed, 0, task.environments))
    return sum(task.step(policy(task)).reward for _ in range(HORIZON))


# --- parity with the reference ---


def scripted(world):
    """The evader's script as its docstring tells it, for one environment of the reference."""
    evader, pursuers = world.agents[-1].state, [agent.state.p_pos for agent in world.agents[:-1]]
    ahead = evader.p_pos + 0.2 * evader.p_vel
    outside = np.maximum(np.abs(ahead) - 0.7, 0.0)
    wish = np.zeros(2)
    if outside.any():
        axis = int(outside[1] >= outside[0])
        wish[axis] = -ahead[axis]
    else:
        for place in pursuers:
            away = evader.p_pos - place
            wish += away / (away @ away)
    axis = int(abs(wish[1]) >= abs(wish[0]))
    return 1 + 2 * axis + int(wish[axis] > 0)


def compare(policy, count, pursuers=3, obstacles=2, seed=5):
    """Drive `Pursuit` and mpe2 from the same states with the same actions for one episode per seed.

    Returns the largest deviation of an observation or a state, how many rewards, touches, ends or evader's actions
    differ, and the sum of the sparse returns.
    """
    task = Pursuit(count, pursuers, obstacles)
    observations, states = [task.reset(episode_seeds(seed, 0, count))], [task.state()]
    start = task._world.coordinates.copy()
    actions, steps, touches = [], [], []
    for _ in range(HORIZON):
        actions.append(np.concatenate([policy(task), task.evader_actions()[:, None]], axis=1))
        steps.append(task.step(actions[-1][:, :-1]))
        observations.append(steps[-1].observations)
        states.append(task.state())
        touches.append(task.features(["touches"])["touches"])

    env, world = reference(pursuers, obstacles)
    names, bodies = [agent.name for agent in world.agents], pursuers + 1
    deviation, differing, scored = 0.0, 0, 0.0
    for index in range(count):
        env.reset()
        positions = start[2 * bodies : 4 * bodies, index].reshape(2, bodies)
        places = start[4 * bodies :, index].reshape(2, obstacles)
        for number, agent in enumerate(world.agents):
            agent.state.p_pos = positions[:, number].copy()
        for number, landmark in enumerate(world.landmarks):
            landmark.state.p_pos = places[:, number].copy()
        for time in range(HORIZON):
            differing += int(scripted(world) != actions[time][index, -1])
            theirs, rewards, terminated, truncated, _ = env.step(
                dict(zip(names, map(int, actions[time][index]), strict=True))
            )
            expected = np.stack([theirs[name] for name in names[:-1]])
            deviation = max(deviation, float(np.abs(expected - observations[time + 1][index]).max()))
            moving = [[agent.state.p_vel for agent in world.agents], [agent.state.p_pos for agent in world.agents]]
            standing = np.array([landmark.state.p_pos for landmark in world.landmarks]).reshape(-1, 2)
            state = np.concatenate([np.array(moving).swapaxes(1, 2).ravel(), standing.T.ravel()])
            deviation = max(deviation, float(np.abs(state - states[time + 1][index]).max()))
            touching = rewards[names[0]] / 10.0  # 10 for every pursuer that touches the evader
            differing += touching != touches[time][index]
            differing += float(touching >= 2) != steps[time].reward[index]
            differing += any(terminated.values()) != steps[time].terminated[index]
            differing += any(truncated.values()) != steps[time].truncated[index]
            scored += steps[time].reward[index]
    env.close()
    return deviation, differing, scored


@pytest.mark.parametrize(
    ("kind", "pursuers", "obstacles", "count"),
    [
        ("random", 3, 2, 5),
        ("chase", 3, 2, 12),
        ("mixed", 3, 2, 14),
        ("chase", 2, 0, 4),
        ("mixed", 6, 5, 4),
        pytest.param("random", 3, 2, 20, marks=pytest.mark.slow),
        pytest.param("chase", 3, 2, 40, marks=pytest.mark.slow),
        pytest.param("mixed", 3, 2, 300, marks=pytest.mark.slow),
        pytest.param("chase", 2, 0, 10, marks=pytest.mark.slow),
        pytest.param("mixed", 6, 5, 10, marks=pytest.mark.slow),
    ],
)
def test_pursuit_equals_the_reference_step_for_step(kind, pursuers, obstacles, count):
    policy = {"random": random_policy(), "chase": chase_policy, "mixed": mixed_policy()}[kind]
    deviation, differing, scored = compare(policy, count, pursuers, obstacles)
    assert deviation <= 1e-6
    assert differing == 0
    if kind != "random" and pursuers > 2:
        assert scored >= count / 4, "the rewards this test is about did not happen"


@pytest.mark.parametrize(
    ("module", "constant", "factor"),
    [
        (particles, "DAMPING", 1.01),
        (particles, "CONTACT_FORCE", 1.01),
        (pursuit, "PURSUER_PUSH", 1.01),
        (pursuit, "EVADER_PUSH", 1.01),
        (pursuit, "PURSUER_SPEED", 1.01),
        (pursuit, "EVADER_SPEED", 0.99),
        (pursuit, "PURSUER_SIZE", 1.02),
        (pursuit, "OBSTACLE_SIZE", 1.02),
    ],
)
def test_comparison_notices_other_physics(monkeypatch, module, constant, factor):
    monkeypatch.setattr(module, constant, getattr(module, constant) * factor)
    assert compare(chase_policy, 4)[0] > 1e-4


@pytest.mark.parametrize(
    ("constant", "factor"), [("TOUCHING_DISTANCE", 0.9), ("NEEDED", 0.5), ("FENCE", 1.05), ("FORESIGHT", 0.5)]
)
def test_comparison_notices_other_rules(monkeypatch, constant, factor):
    monkeypatch.setattr(pursuit, constant, getattr(pursuit, constant) * factor)
    deviation, differing, _ = compare(chase_policy, 10)
    assert deviation <= 1e-6 and differing > 0


def starts_of_the_reference(count):
    env, world = reference()
    starts = np.empty((count, 2, 6))
    for row in starts:
        env.reset()
        row[:] = np.array([entity.state.p_pos for entity in world.entities]).T
        assert not any(agent.state.p_vel.any() for agent in world.agents)
    env.close()
    return starts


def test_episodes_start_as_the_reference_starts_them():
    task = Pursuit(2000)
    task.reset(episode_seeds(2, 0, 2000))
    state = task.state()
    ours = np.concatenate([state[:, 8:16].reshape(-1, 2, 4), state[:, 16:].reshape(-1, 2, 2)], axis=2)
    theirs = starts_of_the_reference(500)
    assert not state[:, :8].any()
    for who, bound in ((slice(0, 4), 1.0), (slice(4, 6), 0.9)):
        assert 0.99 * bound < np.abs(ours[:, :, who]).max() <= bound
    assert min(ks_2samp(ours[:, a, k], theirs[:, a, k]).pvalue for a in range(2) for k in range(6)) > 1e-3
    assert np.abs(np.corrcoef(ours.reshape(2000, 12).T) - np.eye(12)).max() < 0.1  # drawn independently
    assert ks_2samp(ours[:, 0, :4].ravel(), theirs[:, 0, 4:].ravel()).pvalue < 1e-3  # the test can tell them apart


# --- the evader ---


def placed(pursuers, evader, velocity=(0.0, 0.0)):
    task = Pursuit(1, len(pursuers), obstacles=0)
    task.reset(episode_seeds(0, 0, 1))
    task._world.position[:, :, 0] = np.array([*pursuers, evader]).T
    task._world.velocity[:, -1, 0] = velocity
    task._world.measure()
    return task


@pytest.mark.parametrize(
    ("pursuers", "evader", "velocity", "action"),
    [
        ([(-0.5, 0.0), (-0.5, 0.1)], (0.0, 0.0), (0, 0), "right"),
        ([(0.5, 0.0), (0.5, 0.1)], (0.0, 0.0), (0, 0), "left"),
        ([(0.1, 0.5), (-0.5, 0.4)], (0.0, 0.0), (0, 0), "down"),
        ([(0.5, 0.01), (-0.5, -0.3)], (0.0, 0.0), (0, 0), "up"),
        ([(0.0, 0.0), (0.0, 0.1)], (0.71, 0.0), (0, 0), "left"),  # outside: back, though the pursuers are there
        ([(0.0, 0.0), (0.0, 0.1)], (0.6, 0.0), (1.0, 0), "left"),  # about to be outside
        ([(0.0, 0.0), (0.0, 0.1)], (-0.8, 0.9), (0, 0), "down"),  # the axis on which it is further out
        ([(0.3, 0.3), (0.3, 0.3)], (0.3, 0.3), (0, 0), None),  # all on one point: no direction, no failure
    ],
)
def test_the_evader_does_what_its_script_says(pursuers, evader, velocity, action):
    chosen = placed(pursuers, evader, velocity).evader_actions()
    assert chosen.shape == (1,) and 0 <= chosen[0] < 5
    if action is not None:
        assert pursuit.ACTION_NAMES[chosen[0]] == action


def test_it_takes_several_pursuers():
    task = Pursuit(512)
    several, alone = returns_of(task, chase_policy), returns_of(task, lone_policy)
    assert several.mean() > 0.75 and (several > 0).mean() > 0.4
    assert alone.mean() < 0.02
    assert returns_of(task, random_policy()).mean() < 0.02
    assert returns_of(Pursuit(512, pursuers=5), chase_policy).mean() > 1.5


# --- purity ---


def trajectory(task, seeds, actions):
    """Everything an episode shows, as a list of arrays with the environment first."""
    shown = [task.reset(seeds)]
    for joint in actions:
        step = task.step(joint)
        shown += [step.observations, step.reward, step.truncated, task.state(), task.progress(), task.heuristic()]
        shown += list(task.features().values())
    return shown


@pytest.mark.parametrize(("pursuers", "obstacles"), [(3, 2), (2, 0), (12, 3)])
def test_an_episode_depends_on_its_seed_and_actions_only(pursuers, obstacles):
    seeds, task = episode_seeds(3, 0, 33), Pursuit(33, pursuers, obstacles)
    task.reset(seeds)
    actions = []
    for _ in range(HORIZON):
        actions.append(task.heuristic())
        task.step(actions[-1])
    actions = np.array(actions)
    whole = trajectory(task, seeds, actions)
    for members in ([4], [32, 0, 4], list(range(5, 22))):
        part = trajectory(Pursuit(len(members), pursuers, obstacles), seeds[members], actions[:, members])
        for all_of_them, some in zip(whole, part, strict=True):
            np.testing.assert_array_equal(all_of_them[members], some)
    other = trajectory(task, episode_seeds(4, 0, 33), actions)
    assert not np.array_equal(whole[-1], other[-1])


def test_reset_leaves_the_others_alone():
    task, chase = Pursuit(3), mixed_policy()
    task.reset(episode_seeds(0, 0, 3))
    for _ in range(10):
        before = task.step(chase(task)).observations
    after = task.reset(episode_seeds(9, 0, 3), np.array([False, True, False]))
    np.testing.assert_array_equal(after[[0, 2]], before[[0, 2]])
    assert not np.array_equal(after[1], before[1])
    for time in range(10, HORIZON):
        step = task.step(chase(task))
        assert step.truncated.tolist() == [time == HORIZON - 1, False, time == HORIZON - 1]
    assert not step.terminated.any()
    with pytest.raises(RuntimeError, match="pursuit.step was called on an ended episode: reset"):
        task.step(chase(task))


@pytest.mark.parametrize(
    "actions", [np.zeros((2, 4), np.int64), np.zeros((2, 3)), np.full((2, 3), 5), np.full((2, 3), -1)]
)
def test_wrong_actions_are_refused(actions):
    task = Pursuit(2)
    task.reset(episode_seeds(0, 0, 2))
    with pytest.raises(ValueError, match="pursuit.step got actions .* expected"):
        task.step(actions)


def test_nothing_is_stepped_before_its_first_reset():
    with pytest.raises(RuntimeError, match="reset"):
        Pursuit(1).step(np.zeros((1, 3), np.int64))


# --- declarations ---


def outside_bounds(policy, pursuers=3, obstacles=2):
    """The features that left their bounds in 300 episodes, and those that never changed."""
    task = Pursuit(300, pursuers, obstacles)
    task.reset(episode_seeds(6, 0, 300))
    seen = {feature.name: [] for feature in task.spec.features}
    for _ in range(HORIZON):
        task.step(policy(task))
        for feature in task.spec.features:
            value = task.features([feature.name])[feature.name]
            assert value.dtype == np.float32
            assert value.shape == ((300,) if feature.scope == "team" else (300, pursuers))
            seen[feature.name].append(value)
    declared = {feature.name: feature for feature in task.spec.features}
    lows = {name: np.min(values) for name, values in seen.items()}
    highs = {name: np.max(values) for name, values in seen.items()}
    return (
        [name for name in seen if not declared[name].low <= lows[name] <= highs[name] <= declared[name].high],
        [name for name in seen if lows[name] == highs[name]],
    )


def apart_policy(task):
    return np.broadcast_to(np.resize([1, 2, 4], task.spec.agents), (task.environments, task.spec.agents))


@pytest.mark.parametrize("policy", [random_policy(), chase_policy, mixed_policy(), apart_policy])
@pytest.mark.parametrize(("pursuers", "obstacles"), [(3, 2), (2, 0), (5, 6)])
def test_features_stay_inside_their_bounds_and_move(policy, pursuers, obstacles):
    assert outside_bounds(policy, pursuers, obstacles) == ([], [])


def test_without_the_cap_a_bound_would_break(monkeypatch):
    monkeypatch.setattr(pursuit, "DISTANCE_CAP", 1.0)
    specification = pursuit._specification(3, 2)
    monkeypatch.setattr(pursuit, "DISTANCE_CAP", np.inf)
    monkeypatch.setattr(pursuit, "_specification", lambda *options: specification)
    assert "spacing" in outside_bounds(apart_policy)[0]


def test_features_and_progress_from_positions():
    task = Pursuit(200)
    task.reset(episode_seeds(9, 0, 200))
    for _ in range(18):
        task.step(task.heuristic())
    features, state = task.features(), task.state().astype(np.float64)
    velocity, position = state[:, :16].reshape(200, 2, 2, 4).transpose(1, 0, 3, 2)
    place = state[:, 16:].reshape(200, 2, 2).transpose(0, 2, 1)
    to_evader = position[:, 3:] - position[:, :3]
    distance = np.linalg.norm(to_evader, axis=-1)
    between = np.linalg.norm(position[:, :3, None] - position[:, None, :3], axis=-1) + 9.0 * np.eye(3)
    clearance = np.linalg.norm(position[:, :3, None] - place[:, None], axis=-1).min(axis=2) - 0.275
    angle = np.sort(np.arctan2(-to_evader[..., 1], -to_evader[..., 0]), axis=1)
    gaps = np.diff(np.concatenate([angle, angle[:, :1] + 2 * np.pi], axis=1), axis=1)
    later = np.linalg.norm(to_evader + 1e-6 * (velocity[:, 3:] - velocity[:, :3]), axis=-1)
    touches = (distance < 0.125).sum(axis=1)
    expected = {
        "touches": touches,
        "nearest_distance": np.sort(distance)[:, 0],
        "second_distance": np.sort(distance)[:, 1],
        "widest_gap": gaps.max(axis=1),
        "evader_off_centre": np.abs(position[:, 3]).max(axis=1),
        "distance_to_evader": distance,
        "closing_speed": (distance - later) / 1e-6,
        "spacing": between.min(axis=2),
        "clearance": np.maximum(clearance, 0.0),
    }
    assert set(expected) == set(features)
    for name, value in expected.items():
        np.testing.assert_allclose(features[name], value, atol=1e-4 if name == "closing_speed" else 3e-6, err_msg=name)
    assert set(touches) >= {0, 1, 2}
    np.testing.assert_array_equal(task.progress(), np.minimum(touches, 2) / 2)


def test_words_fit_the_options():
    assert "One round obstacle blocks" in Pursuit(1, obstacles=1).spec.description
    assert "There are no obstacles" in Pursuit(1, obstacles=0).spec.description
    assert Pursuit(1, pursuers=4, obstacles=1).spec.name == "pursuit?pursuers=4&obstacles=1"


def test_a_held_evader_is_drawn_as_such():
    task = placed([(0.1, 0.0), (-0.1, 0.0), (0.9, 0.9)], (0.0, 0.0))
    floor, *pursuers, evader = task.draw(0).shapes
    assert floor.colour == "floor" and [shape.label for shape in pursuers] == ["0", "1", "2"]
    assert evader.colour == "done" and task.draw(0).caption == "2 of 2 touch"
    assert (pursuers[2].x, pursuers[2].y) == pytest.approx((pursuit.VIEW + 0.9, pursuit.VIEW - 0.9))
    free = placed([(0.1, 0.0), (-0.5, 0.0)], (0.0, 0.0)).draw(0)
    assert free.shapes[-1].colour == "other" and free.caption == "1 of 2 touch"
