"""Tasks: `spread` against its reference, purity of episodes, declared features, names and PettingZoo."""

from __future__ import annotations

import importlib
import os
import warnings

import numpy as np
import pytest

from learning_signal.marl.errors import TaskOptionError, UnknownTask
from learning_signal.marl.randomness import episode_seeds, uniforms
from learning_signal.marl.tasks import make_task, particles, spread, task_names
from learning_signal.marl.tasks.base import Group, Step, TaskSpec
from learning_signal.marl.tasks.parallel import BatchedTaskEnv, as_parallel_env
from learning_signal.marl.tasks.particles import steer
from learning_signal.marl.tasks.spread import HORIZON, Spread


def reference_module():
    """mpe2's simple_spread: a development dependency, so its absence fails in CI and skips elsewhere."""
    if os.environ.get("CI"):
        return importlib.import_module("mpe2.simple_spread_v3")
    return pytest.importorskip("mpe2.simple_spread_v3")


# --- policies: a task and its observations [E, A, O] -> actions [E, A] ---


def random_policy(seed):
    generator = np.random.default_rng(seed)
    return lambda task, observations: generator.integers(0, 5, observations.shape[:2])


def squeeze_policy(task, observations):
    """Everybody pushes towards the others: contact in every step."""
    agents = observations.shape[1]
    others = observations[..., 4 + 2 * agents : 4 + 2 * agents + 2 * (agents - 1)]
    return steer(np.moveaxis(others.reshape(*others.shape[:2], agents - 1, 2).mean(axis=2), -1, 0))


def covering_policy(task, observations):
    return task.heuristic()


def returns_of(task, policy, seed):
    """Sparse returns [E] of one whole episode per environment."""
    observations = task.reset(episode_seeds(seed, 0, task.environments))
    total = np.zeros(task.environments)
    for _ in range(HORIZON):
        step = task.step(policy(task, observations))
        observations = step.observations
        total += step.reward
    return total


# --- parity with the reference ---


def crowded_seeds(agents, count):
    """Of many seeds, the ``count`` whose episodes start with the agents closest together."""
    seeds = episode_seeds(11, 0, 4000)
    task = Spread(len(seeds), agents)
    task.reset(seeds)
    spacing = task.features()["coverage_distance" if agents == 1 else "spacing"]
    return seeds[np.argsort(spacing, kind="stable")[:count]]


def worst_deviation(agents, seeds, policy):
    """Drive `Spread` and mpe2 from the same states with the same actions for one episode per seed.

    Returns the largest deviation of any observation, the largest of the sum of mpe2's dense rewards, how
    many steps differed in the sparse reward or the end, and how many agent pairs touched in all.
    """
    task = Spread(len(seeds), agents)
    observations = [task.reset(seeds)]
    actions, steps, dense, touches = [], [], [], 0.0
    for _ in range(HORIZON):
        actions.append(policy(task, observations[-1]))
        steps.append(task.step(actions[-1]))
        observations.append(steps[-1].observations)
        features = task.features()
        collisions = features.get("collisions", np.zeros(len(seeds)))
        dense.append(-0.5 * (agents * features["coverage_distance"] + 2 * collisions))
        touches += collisions.sum()

    env = reference_module().parallel_env(N=agents, local_ratio=0.5, max_cycles=HORIZON, continuous_actions=False)
    world = env.aec_env.unwrapped.world
    names = [agent.name for agent in world.agents]
    start = 2.0 * uniforms(seeds, 4 * agents) - 1.0
    observation_error = dense_error = 0.0
    differing = 0
    for index in range(len(seeds)):
        env.reset()
        places = start[index].reshape(2, 2, agents)
        for number, (agent, landmark) in enumerate(zip(world.agents, world.landmarks, strict=True)):
            agent.state.p_pos = places[0, :, number].copy()
            landmark.state.p_pos = places[1, :, number].copy()
        for time in range(HORIZON):
            joint = {name: int(actions[time][index, k]) for k, name in enumerate(names)}
            theirs, rewards, terminated, truncated, _ = env.step(joint)
            expected = np.stack([theirs[name] for name in names])
            error = np.abs(expected - observations[time + 1][index]).max()
            observation_error = max(observation_error, float(error))
            dense_error = max(dense_error, float(abs(sum(rewards.values()) - dense[time][index])))
            positions = np.array([agent.state.p_pos for agent in world.agents])
            targets = np.array([landmark.state.p_pos for landmark in world.landmarks])
            nearest = np.linalg.norm(positions[:, None] - targets, axis=-1).min(axis=0)
            differing += float((nearest <= task.radius).all()) != steps[time].reward[index]
            differing += any(terminated.values()) != steps[time].terminated[index]
            differing += any(truncated.values()) != steps[time].truncated[index]
    env.close()
    return observation_error, dense_error, differing, touches


@pytest.mark.parametrize(
    ("kind", "agents", "count"),
    [
        *((kind, agents, 6) for kind in ("random", "squeeze", "covering") for agents in (2, 3)),
        *((kind, 5, 4) for kind in ("random", "squeeze", "covering")),
        ("covering", 1, 4),
        ("squeeze", 18, 1),
        *(
            pytest.param(kind, agents, 20 if agents == 5 else 40, marks=pytest.mark.slow)
            for kind in ("random", "squeeze", "covering")
            for agents in (2, 3, 5)
        ),
        pytest.param("covering", 1, 20, marks=pytest.mark.slow),
        pytest.param("squeeze", 18, 2, marks=pytest.mark.slow),
    ],
)
def test_spread_equals_the_reference_step_for_step(monkeypatch, kind, agents, count):
    monkeypatch.setattr(spread, "DISTANCE_CAP", np.inf)  # the reference's dense reward has no cap
    policy = {"random": random_policy(agents), "squeeze": squeeze_policy, "covering": covering_policy}[kind]
    seeds = crowded_seeds(agents, count) if kind == "squeeze" else episode_seeds(5, 0, count)
    observation_error, dense_error, differing, touches = worst_deviation(agents, seeds, policy)
    assert observation_error <= 1e-5
    assert dense_error <= 1e-4
    assert differing == 0
    if kind == "squeeze":
        assert touches / count > 2.0, "the close contacts this test is about did not happen"


@pytest.mark.parametrize(
    ("module", "constant", "factor"),
    [
        (particles, "DAMPING", 1.01),
        (particles, "TIME_STEP", 1.01),
        (particles, "CONTACT_FORCE", 1.01),
        (particles, "CONTACT_MARGIN", 2.0),
        (spread, "PUSH", 1.01),
        (spread, "AGENT_SIZE", 1.01),
    ],
)
def test_comparison_notices_other_physics(monkeypatch, module, constant, factor):
    monkeypatch.setattr(module, constant, getattr(module, constant) * factor)
    observation_error, *_ = worst_deviation(3, crowded_seeds(3, 4), squeeze_policy)
    assert observation_error > 1e-4


def test_comparison_notices_another_radius(monkeypatch):
    seeds = episode_seeds(5, 0, 20)
    less = Spread.__init__.__defaults__[-1] * 0.8
    original = Spread._measure

    def measure_with_a_smaller_radius(self):
        self.radius, radius = less, self.radius
        original(self)
        self.radius = radius

    monkeypatch.setattr(Spread, "_measure", measure_with_a_smaller_radius)
    assert worst_deviation(3, seeds, covering_policy)[2] > 0


# --- purity ---


def trajectory(task, seeds, actions):
    """Everything an episode shows, as a list of arrays with the environment first."""
    shown = [task.reset(seeds)]
    for joint in actions:
        step = task.step(joint)
        shown += [step.observations, step.reward, step.truncated, task.state(), task.progress()]
        shown += list(task.features().values())
    return shown


@pytest.mark.parametrize("agents", [1, 2, 3, 5, 10])
def test_an_episode_depends_on_its_seed_and_actions_only(agents):
    seeds = crowded_seeds(agents, 37)
    actions = np.random.default_rng(0).integers(0, 5, (HORIZON, 37, agents))
    whole = trajectory(Spread(37, agents), seeds, actions)
    for members in ([4], [36, 0, 4], list(range(5, 22))):
        part = trajectory(Spread(len(members), agents), seeds[members], actions[:, members])
        for all_of_them, some in zip(whole, part, strict=True):
            np.testing.assert_array_equal(all_of_them[members], some)


def test_two_runs_are_equal_and_another_seed_is_not():
    actions = np.random.default_rng(1).integers(0, 5, (HORIZON, 8, 3))
    task = Spread(8)
    first = trajectory(task, episode_seeds(3, 0, 8), actions)
    second = trajectory(task, episode_seeds(3, 0, 8), actions)
    other = trajectory(task, episode_seeds(4, 0, 8), actions)
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    assert not np.array_equal(first[-1], other[-1])


def test_reset_leaves_the_others_alone():
    seeds, actions = episode_seeds(7, 0, 4), np.random.default_rng(2).integers(0, 5, (HORIZON, 4, 3))
    undisturbed = trajectory(Spread(4), seeds, actions)[1::13]
    task = Spread(4)
    task.reset(seeds)
    where = np.array([False, True, False, True])
    for time, joint in enumerate(actions):
        step = task.step(joint)
        np.testing.assert_array_equal(step.observations[[0, 2]], undisturbed[time][[0, 2]])
        np.testing.assert_array_equal(step.truncated[[1, 3]], [False, False])
        if time % 10 == 9:
            before = step.observations.copy()
            after = task.reset(episode_seeds(8, time, 4), where)
            np.testing.assert_array_equal(step.observations, before)  # the successor outlives the reset
            np.testing.assert_array_equal(after[[0, 2]], before[[0, 2]])
            assert not np.array_equal(after[[1, 3]], before[[1, 3]])
            np.testing.assert_array_equal(after[[1, 3], :, :2], 0.0)
    np.testing.assert_array_equal(step.truncated, [True, False, True, False])


# --- declarations ---


def feature_extremes(policy, agents=3):
    task = Spread(200, agents)
    observations = task.reset(crowded_seeds(agents, 200))
    extremes = {feature.name: [np.inf, -np.inf] for feature in task.spec.features}
    for _ in range(HORIZON):
        observations = task.step(policy(task, observations)).observations
        values = task.features()
        assert list(values) == [feature.name for feature in task.spec.features]
        for feature in task.spec.features:
            value = values[feature.name]
            assert value.dtype == np.float32
            assert value.shape == ((200,) if feature.scope == "team" else (200, agents))
            extremes[feature.name][0] = min(extremes[feature.name][0], value.min())
            extremes[feature.name][1] = max(extremes[feature.name][1], value.max())
    return task.spec, extremes


def run_away_policy(task, observations):
    return np.broadcast_to([1, 2, 4][: observations.shape[1]], observations.shape[:2])


@pytest.mark.parametrize("policy", [random_policy(3), squeeze_policy, covering_policy, run_away_policy])
def test_features_stay_inside_their_bounds(policy):
    spec, extremes = feature_extremes(policy)
    for feature in spec.features:
        low, high = extremes[feature.name]
        assert feature.low <= low <= high <= feature.high, feature.name


def test_without_the_cap_the_bounds_would_break(monkeypatch):
    monkeypatch.setattr(spread, "DISTANCE_CAP", np.inf)
    _, extremes = feature_extremes(run_away_policy)
    assert extremes["spacing"][1] > 3.0


def test_features_and_progress_from_positions():
    task = Spread(300)
    task.reset(episode_seeds(9, 0, 300))
    for _ in range(HORIZON):
        task.step(task.heuristic())
    features, state = task.features(), task.state().astype(np.float64)
    velocity, position, landmark = state.reshape(300, 3, 2, 3).transpose(1, 0, 3, 2)
    distance = np.linalg.norm(position[:, :, None] - landmark[:, None], axis=-1)
    between = np.linalg.norm(position[:, [0, 0, 1]] - position[:, [1, 2, 2]], axis=-1)
    covered = (distance.min(axis=1) <= 0.15).mean(axis=1)
    assert distance.max() < 3.0 and covered.max() == 1.0
    expected = {
        "coverage_distance": distance.min(axis=1).sum(axis=1),
        "worst_coverage_distance": distance.min(axis=1).max(axis=1),
        "covered_fraction": covered,
        "collisions": (between < 0.3).sum(axis=1),
        "spacing": between.mean(axis=1),
        "nearest_landmark_distance": distance.min(axis=2),
        "speed": np.linalg.norm(velocity, axis=-1),
        "distance_to_centre": np.linalg.norm(position, axis=-1),
    }
    assert set(expected) == set(features)
    for name, value in expected.items():
        np.testing.assert_allclose(features[name], value, atol=2e-6, err_msg=name)
    np.testing.assert_allclose(task.progress(), covered, atol=1e-6)


def test_a_scripted_policy_scores_and_random_does_not():
    assert returns_of(Spread(512), covering_policy, 1).mean() > 10.0
    assert returns_of(Spread(512), random_policy(1), 1).mean() < 0.05
    assert returns_of(Spread(512, 1), covering_policy, 1).mean() > 15.0
    assert returns_of(Spread(128, 8), covering_policy, 1).mean() > 2.0


def test_the_heuristic_gives_every_agent_its_own_landmark():
    task = Spread(1, 3)
    task.reset(episode_seeds(0, 0, 1))
    world = task._world
    world.velocity[:] = 0.0
    world.position[:, :, 0] = [[0.0, 0.1, -0.9], [0.0, 0.0, 0.0]]
    world.places[:, :, 0] = [[0.0, 0.9, -0.9], [0.0, 0.0, 0.5]]
    world.measure()
    assert task.heuristic().tolist() == [[0, 2, 4]]  # the second agent leaves the first landmark, near as it is
    before = world.coordinates.copy()
    task.heuristic()
    np.testing.assert_array_equal(world.coordinates, before)


def test_spread_draws_what_there_is():
    task = Spread(3)
    task.reset(episode_seeds(0, 0, 3))
    for _ in range(HORIZON):
        task.step(task.heuristic())
    environment = int(task.progress().argmax())
    floor, *things = task.draw(environment).shapes
    assert floor.colour == "floor" and [shape.label for shape in things] == ["", "", "", "0", "1", "2"]
    covered = round(3 * float(task.progress()[environment]))
    assert [shape.colour for shape in things].count("done") == covered > 0
    assert task.draw(environment).caption == f"{covered} of 3 landmarks covered"
    x, y = task._world.position[:, 0, environment]
    assert (things[3].x, things[3].y) == pytest.approx((spread.VIEW + x, spread.VIEW - y))  # up is up


def test_specification_is_consistent():
    spec = Spread(1, agents=5).spec
    task = Spread(2, agents=5)
    assert task.reset(episode_seeds(0, 0, 2)).shape == (2, 5, spec.observation_size)
    assert task.state().shape == (2, spec.state_size)
    assert len(spec.action_names) == spec.actions and spec.action_names[spec.idle_action] == "stay"
    assert spec.max_return == spec.horizon == HORIZON
    assert len({feature.name for feature in spec.features}) == len(spec.features)


def test_agents_on_one_point_exert_no_force():
    task = Spread(2, agents=2)
    task.reset(episode_seeds(0, 0, 2))
    task._world.coordinates[:] = 0.25
    task._world.coordinates[:4] = 0.0
    task._world.measure()
    step = task.step(np.zeros((2, 2), dtype=np.int64))
    assert np.isfinite(step.observations).all() and not step.observations[..., :2].any()


# --- misuse ---


@pytest.mark.parametrize(
    "actions", [np.zeros((2, 2), dtype=np.int64), np.zeros((2, 3)), np.full((2, 3), 5), np.full((2, 3), -1)]
)
def test_wrong_actions_are_refused(actions):
    task = Spread(2)
    task.reset(episode_seeds(0, 0, 2))
    with pytest.raises(ValueError, match="spread.step got actions .* expected"):
        task.step(actions)


def test_an_ended_episode_is_not_stepped():
    task, still = Spread(2), np.zeros((2, 3), dtype=np.int64)
    with pytest.raises(RuntimeError, match="reset"):
        task.step(still)
    task.reset(episode_seeds(0, 0, 2))
    for _ in range(HORIZON):
        step = task.step(still)
    assert step.truncated.all() and not step.terminated.any()
    with pytest.raises(RuntimeError, match="reset"):
        task.step(still)
    task.reset(episode_seeds(0, 2, 2), np.array([True, False]))
    with pytest.raises(RuntimeError, match="reset"):
        task.step(still)
    task.reset(episode_seeds(0, 2, 2), np.array([False, True]))
    task.step(still)


@pytest.mark.parametrize("arguments", [{"seeds": 3}, {"seeds": 2, "where": 3}, {"seeds": 2, "where": 2, "kind": int}])
def test_wrong_resets_are_refused(arguments):
    where = np.ones(arguments["where"], dtype=arguments.get("kind", bool)) if "where" in arguments else None
    with pytest.raises(ValueError, match="spread.reset got .* expected"):
        Spread(2).reset(episode_seeds(0, 0, arguments["seeds"]), where)


# --- names ---


def test_names_and_options():
    assert task_names() == ("foraging", "overcooked", "pursuit", "spread", "warehouse")
    task = make_task("spread?agents=5&radius=0.2", 7)
    assert (task.environments, task.spec.agents, task.radius) == (7, 5, 0.2)
    assert task.spec.name == "spread?agents=5&radius=0.2"
    assert make_task("spread", 1, agents=5, radius=0.2).spec == task.spec
    precise = make_task("spread", 1, radius=0.123456789)
    assert make_task(precise.spec.name, 1).radius == 0.123456789
    assert make_task("spread?agents=3", 1).spec.name == "spread"


@pytest.mark.parametrize(
    ("name", "same"),
    [
        ("pursuit?obstacles=2&pursuers=4", "pursuit?pursuers=4"),
        ("Foraging-8x8-2p-1f-v3", "foraging?id=Foraging-8x8-2p-1f-v3"),
        ("rware-tiny-2ag-v2", "warehouse?id=rware-tiny-2ag-v2"),
    ],
)
def test_a_task_has_one_canonical_name(name, same):
    spec = make_task(name, 1).spec
    assert spec == make_task(same, 1).spec == make_task(spec.name, 1).spec


@pytest.mark.parametrize("name", task_names())
def test_every_task_declares_what_it_shows(name):
    task = make_task(name, 2)
    observations = task.reset(episode_seeds(0, 0, 2))
    spec = task.spec
    assert make_task(spec.name, 1).spec == spec
    assert observations.shape == (2, spec.agents, spec.observation_size)
    assert task.state().shape == (2, spec.state_size)
    assert task.heuristic().shape == (2, spec.agents)
    assert list(task.features()) == [feature.name for feature in spec.features]
    assert 6 <= len(spec.features) <= 10 and {feature.scope for feature in spec.features} == {"team", "agent"}
    assert ((task.progress() >= 0) & (task.progress() <= 1)).all()
    assert task.draw(1).shapes


@pytest.mark.parametrize(
    ("name", "options", "kind", "words"),
    [
        (
            "spred",
            {},
            UnknownTask,
            "expected one of: foraging, overcooked, pursuit, spread, warehouse; did you mean 'spread'?",
        ),
        (
            "",
            {},
            UnknownTask,
            "Unknown task '', expected one of: foraging, overcooked, pursuit, spread, warehouse; choose",
        ),
        ("spread?agent=5", {}, TaskOptionError, "no option 'agent', expected one of: agents, radius"),
        ("spread?environments=5", {}, TaskOptionError, "no option 'environments'"),
        ("spread?agents", {}, TaskOptionError, "expected NAME=VALUE"),
        ("spread?agents=five", {}, TaskOptionError, "agents='five', expected a whole number"),
        ("spread?radius=wide", {}, TaskOptionError, "radius='wide', expected a number"),
        ("spread?agents=4&agents=5", {}, TaskOptionError, "'agents' twice"),
        ("spread?agents=4", {"agents": 4}, TaskOptionError, "'agents' twice"),
        ("spread", {"agents": 2.5}, TaskOptionError, "expected a whole number"),
        ("spread?agents=0", {}, ValueError, "agents=0, expected 1 to 100"),
        ("pursuit?pursuers=1", {}, ValueError, "pursuers=1, expected 2 to 100"),
        ("pursuit?obstacles=-1", {}, ValueError, "obstacles=-1, expected 0 to 100"),
        ("spread?radius=nan", {}, ValueError, "radius=nan, expected above 0"),
        ("spread?radius=0", {}, ValueError, "radius=0.0, expected above 0"),
    ],
)
def test_wrong_names_and_options_are_one_sentence(name, options, kind, words):
    with pytest.raises(kind) as caught:
        make_task(name, 1, **options)
    assert words in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", task_names())
def test_at_least_one_environment(name):
    with pytest.raises(ValueError, match="environments=0, expected at least 1"):
        make_task(name, 0)


# --- PettingZoo ---


@pytest.mark.filterwarnings("ignore:The old environment creation API:DeprecationWarning")
@pytest.mark.parametrize("name", [*task_names(), "spread?agents=1", "Foraging-2s-8x8-3p-2f-coop-v3"])
def test_parallel_env_passes_the_api_test(name):
    from pettingzoo.test import parallel_api_test

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        parallel_api_test(as_parallel_env(name, seed=4), num_cycles=120)


def test_parallel_env_is_the_task():
    env, task = as_parallel_env("spread", seed=6), make_task("spread", 1)
    actions = np.random.default_rng(5).integers(0, 5, (HORIZON, 1, 3))
    for episode in range(2):
        observations, infos = env.reset()
        np.testing.assert_array_equal(
            np.stack(list(observations.values())), task.reset(episode_seeds(6, episode, 1))[0]
        )
        for time in range(HORIZON):
            assert env.agents == ["agent_0", "agent_1", "agent_2"]
            ours = task.step(actions[time])
            step = env.step(dict(zip(env.agents, actions[time, 0], strict=True)))
            observations, rewards, terminations, truncations, infos = step
            np.testing.assert_array_equal(np.stack(list(observations.values())), ours.observations[0])
            assert set(rewards.values()) == {float(ours.reward[0])}
            assert set(truncations.values()) == {time == HORIZON - 1}
            assert not any(terminations.values())
            np.testing.assert_array_equal(env.state(), task.state()[0])
            features = task.features()
            assert infos["agent_1"]["features"]["speed"] == features["speed"][0, 1]
            assert infos["agent_1"]["features"]["spacing"] == features["spacing"][0]
        assert env.agents == [] and env.step({}) == ({}, {}, {}, {}, {})


def test_parallel_env_seed_starts_a_stream_and_misuse_is_refused():
    env = as_parallel_env("spread", seed=6)
    first = env.reset()[0]["agent_0"]
    second = env.reset()[0]["agent_0"]
    again = env.reset(seed=6)[0]["agent_0"]
    assert np.array_equal(first, again) and not np.array_equal(first, second)
    with pytest.raises(ValueError, match="no action for agent_1, agent_2"):
        env.step({"agent_0": 0})
    env.reset()
    with pytest.raises(ValueError, match="spread.step got actions of shape .* type float"):
        env.step({"agent_0": 0, "agent_1": 0.7, "agent_2": 0})


def test_parallel_env_renders_pixels_and_closes():
    env = as_parallel_env("spread", seed=6)
    env.reset()
    pixels = env.render()
    assert pixels.dtype == np.uint8 and pixels.shape[1:] == (360, 3) and len(np.unique(pixels)) > 2
    env.close()


class _Relay:
    """Two short-armed agents and a long-armed one; agent k leaves after step k + 1, the last one ends the episode."""

    environments = 1

    def __init__(self, truncates=False):
        self.truncates, self.received, self.closed = truncates, [], False
        self.spec = TaskSpec(
            name="relay",
            description="",
            sparse_reward="1 per step",
            agents=3,
            observation_size=4,
            state_size=1,
            actions=3,
            action_names=("a", "b", "c"),
            idle_action=None,
            horizon=3,
            max_return=None,
            features=(),
            progress=None,
            continuous=True,
            agents_leave=True,
            groups=(Group("short", (0, 1), 2, 1), Group("long", (2,), 4, 3)),
        )

    def reset(self, seeds, where=None):
        self.time = 0
        return self._rows()

    def _rows(self):
        return np.full((1, 3, 4), self.time, np.float32)

    def step(self, actions):
        self.received.append(actions[0].tolist())
        self.time += 1
        end = np.array([self.time == 3])
        terminated, truncated = (end & False, end) if self.truncates else (end, end & False)
        return Step(self._rows(), np.ones(1, np.float32), terminated, truncated, np.arange(3)[None] >= self.time)

    def features(self, names=None):
        return {}

    def close(self):
        self.closed = True


@pytest.mark.parametrize("truncates", [False, True])
def test_agents_of_several_kinds_leave_one_by_one(truncates):
    task = _Relay(truncates)
    env = BatchedTaskEnv(task, 0)
    assert [env.action_space(agent).shape for agent in env.possible_agents] == [(1,), (1,), (3,)]
    observations, _ = env.reset()
    assert {agent: row.shape for agent, row in observations.items()} == {
        "agent_0": (2,),
        "agent_1": (2,),
        "agent_2": (4,),
    }
    action = {"agent_0": np.array([0.1]), "agent_1": np.array([0.2]), "agent_2": np.array([0.3, 0.4, 0.5])}
    for time, present in enumerate((["agent_0", "agent_1", "agent_2"], ["agent_1", "agent_2"], ["agent_2"])):
        assert env.agents == present
        observations, rewards, terminations, truncations, infos = env.step({agent: action[agent] for agent in present})
        assert list(observations) == list(rewards) == list(infos) == present and set(rewards.values()) == {1.0}
        last = time == 2
        assert terminations == {agent: agent == f"agent_{time}" and not (last and truncates) for agent in present}
        assert truncations == dict.fromkeys(present, last and truncates)
    assert env.agents == []
    expected = [[[0.1, 0, 0], [0.2, 0, 0], [0.3, 0.4, 0.5]], [[0] * 3, [0.2, 0, 0], [0.3, 0.4, 0.5]]]
    np.testing.assert_allclose(task.received[:2], expected, rtol=1e-6)
    env.reset()
    with pytest.raises(ValueError, match=r"shape \(2,\) for agent_0, expected \(1,\)"):
        env.step({agent: np.zeros(2) for agent in env.agents})
    env.close()
    assert task.closed
