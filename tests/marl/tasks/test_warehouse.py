"""Task `warehouse`: step for step against rware, who drives in a crowd, declared features, ids and refusals."""

from __future__ import annotations

import importlib
import os

import numpy as np
import pytest
from scipy.stats import chi2_contingency, chisquare

from learning_signal.marl.randomness import episode_seeds, uniforms
from learning_signal.marl.tasks import make_task
from learning_signal.marl.tasks.warehouse import task as warehouse
from learning_signal.marl.tasks.warehouse.features import ACTION_NAMES, FEATURE_VALUES, HORIZON
from learning_signal.marl.tasks.warehouse.layout import MAX_AGENTS, REQUESTS_PER_AGENT, SIZES, layout_of
from learning_signal.marl.tasks.warehouse.state import AGENT, CARGO, FACING, HELD, REQUESTED, SHELF
from learning_signal.marl.tasks.warehouse.task import Warehouse
from learning_signal.marl.tasks.warehouse.traffic import granted

EASY = "rware-tiny-2ag-easy-v2"


def needed(module):
    """A module of the reference: a development dependency, so its absence fails in CI and skips elsewhere."""
    return importlib.import_module(module) if os.environ.get("CI") else pytest.importorskip(module)


def reference(name):
    """rware's environment ``name``."""
    needed("rware")
    return importlib.import_module("gymnasium").make(name).unwrapped


class _OurDraws:
    """Stands in for the reference's random generator: requests what our rule would, from our numbers."""

    def __init__(self, env, seed):
        self.env, self.seed, self.time = env, seed, 0

    def choice(self, candidates):
        (x, y), env = self.env.goals[0], self.env
        on_first = env.grid[1, y, x]
        goal = 0 if on_first and env.shelfs[on_first - 1] in env.request_queue else 1
        draw = uniforms(np.array([self.seed]), 2, stream=self.time)[0, goal]
        return sorted(candidates, key=lambda shelf: (shelf.y, shelf.x))[int(draw * len(candidates))]


def number(thing, layout):
    """Our cell of an agent or a shelf of the reference."""
    return (thing.y + 1) * layout.stride + thing.x + 1


def to_reference(task, index, env):
    """Put an episode of ours that has just been reset into ``env``."""
    env.reset(seed=0)
    layout = task.layout
    agents = zip(env.agents, task.world.place[index], task.world.facing[index], strict=True)
    directions = list(type(env.agents[0].dir))
    for agent, cell, facing in agents:
        agent.x, agent.y, agent.dir = int(layout.x[cell]), int(layout.y[cell]), directions[facing]
    requested = {(layout.x[cell], layout.y[cell]) for cell in task.world.requests()[0][index]}
    env.request_queue = [shelf for shelf in env.shelfs if (shelf.x, shelf.y) in requested]
    env._recalc_grid()


def to_ours(env, task, index):
    """Put the state of ``env`` into episode ``index`` of ours."""
    cells = task.world.bare.copy()
    for shelf in env.shelfs:
        cells[number(shelf, task.layout)] |= SHELF | REQUESTED * (shelf in env.request_queue)
    for agent in env.agents:
        cell = number(agent, task.layout)
        cells[cell] |= agent.id << AGENT | agent.dir.value << FACING | HELD * bool(agent.carrying_shelf)
        task.world.index[index, agent.id - 1] = task.world.base[index, 0] + cell
    task.world.cells[index] = cells
    task.world.here = task.world.flat.take(task.world.index)


def expected_state(env):
    """The joint state as the class docstring of `Warehouse` describes it, from the reference's own objects."""
    height, width = env.grid_size
    values = []
    for agent in env.agents:
        shelf = agent.carrying_shelf
        values += [agent.x / (width - 1), agent.y / (height - 1), *np.eye(4)[agent.dir.value]]
        values += [shelf is not None, shelf in env.request_queue]
    held = [agent.carrying_shelf for agent in env.agents]
    standing = {(shelf.y, shelf.x): shelf for shelf in env.shelfs if shelf not in held}
    for y, x in np.argwhere(env.highways == 0):
        values += [(y, x) in standing, standing.get((y, x)) in env.request_queue]
    return np.array(values, dtype=np.float64)


def lowest_agent_first(env, monkeypatch):
    """Where queues have one length the reference goes by a hash set; make it go by the number of the first agent."""
    networkx = needed("networkx")
    original = networkx.algorithms.dag_longest_path

    def longest_path(graph):
        ordered = networkx.DiGraph()
        places = [(agent.x, agent.y) for agent in env.agents]
        ordered.add_edges_from((place, *graph.successors(place)) for place in places if place in graph)
        return original(ordered)

    monkeypatch.setattr(networkx.algorithms, "dag_longest_path", longest_path)


def differences(name, episodes, steps, monkeypatch, scripted=0.85):
    """Drive both from the same states with the same actions; steps that differ, by what, and rewards seen.

    The first half of the ``episodes`` plays at random, the others follow the scripted policy most of the time.
    """
    seeds, generator = episode_seeds(21, 0, episodes), np.random.default_rng(4)
    task = make_task(name, episodes)
    observations = [task.reset(seeds)]
    states, joint, results = [task.state()], [], []
    env = reference(name)
    if task.spec.agents > 3:
        lowest_agent_first(env, monkeypatch)
    starts = Warehouse(episodes, name)
    starts.reset(seeds)
    for _ in range(steps):
        actions = generator.integers(0, 5, (episodes, task.spec.agents))
        follow = generator.random(actions.shape) < scripted
        follow[: episodes // 2] = False
        joint.append(np.where(follow, task.heuristic(), actions))
        results.append(task.step(joint[-1]))
        observations.append(results[-1].observations)
        states.append(task.state())
    found = dict.fromkeys(("observations", "states", "rewards", "ends"), 0)
    rewards = 0.0
    for index in range(episodes):
        to_reference(starts, index, env)
        env._np_random = draws = _OurDraws(env, seeds[index])
        theirs = np.stack([env._make_obs(agent) for agent in env.agents])
        found["observations"] += not np.array_equal(theirs, observations[0][index])
        found["states"] += not np.allclose(expected_state(env), states[0][index], atol=1e-6)
        for time in range(steps):
            draws.time = time + 1
            theirs, reward, done, truncated, _ = env.step(joint[time][index].tolist())
            ours = results[time]
            found["observations"] += not np.array_equal(np.stack(theirs), ours.observations[index])
            found["states"] += not np.allclose(expected_state(env), states[time + 1][index], atol=1e-6)
            found["rewards"] += sum(reward) != ours.reward[index]
            found["ends"] += done != ours.truncated[index] or ours.terminated[index] or truncated
            rewards += sum(reward)
    return found, rewards


@pytest.mark.parametrize(
    ("name", "episodes", "steps", "rewarded"),
    [
        (EASY, 2, 100, 3),
        (EASY, 1, HORIZON, 10),
        ("rware-tiny-2ag-v2", 2, 80, 2),
        ("rware-tiny-3ag-hard-v2", 2, 60, 1),
        ("rware-small-4ag-v2", 2, 60, 1),
        ("rware-tiny-8ag-v2", 2, 30, 1),
        pytest.param(EASY, 6, 100, 5, marks=pytest.mark.slow),
        pytest.param("rware-tiny-2ag-v2", 6, 100, 5, marks=pytest.mark.slow),
        pytest.param("rware-tiny-3ag-hard-v2", 4, 80, 2, marks=pytest.mark.slow),
        pytest.param("rware-small-4ag-v2", 4, 80, 2, marks=pytest.mark.slow),
        pytest.param("rware-tiny-8ag-v2", 2, 50, 2, marks=pytest.mark.slow),
    ],
)
def test_warehouse_equals_the_reference_step_for_step(monkeypatch, name, episodes, steps, rewarded):
    found, rewards = differences(name, episodes, steps, monkeypatch)
    assert found == {"observations": 0, "states": 0, "rewards": 0, "ends": 0}
    assert rewards >= rewarded, "the deliveries this test is about did not happen"


@pytest.mark.slow
@pytest.mark.parametrize("size", ["tiny-2ag", "small-4ag", "medium-6ag", "large-9ag"])
@pytest.mark.parametrize("difficulty", REQUESTS_PER_AGENT)
def test_whole_episodes_equal_the_reference(monkeypatch, size, difficulty):
    episodes = 10 if size == "tiny-2ag" else 4
    found, rewards = differences(f"rware-{size}{difficulty}-v2", episodes, HORIZON, monkeypatch)
    assert found == {"observations": 0, "states": 0, "rewards": 0, "ends": 0} and rewards > 10


def _another_request(task, rows, goal, original=Warehouse._request_another):
    task._seeds, seeds = task._seeds + np.uint64(1), task._seeds
    original(task, rows, goal)
    task._seeds = seeds


def _two_for_one(task, original=Warehouse._deliver):
    return 2 * original(task)


@pytest.mark.parametrize(
    ("owner", "name", "value", "noticed"),
    [
        (Warehouse, "_request_another", _another_request, {"states"}),
        (Warehouse, "_deliver", _two_for_one, {"rewards"}),
        (warehouse, "_TURNED", warehouse._TURNED[[0, 1, 3, 2, 4]], {"observations", "states"}),
        (warehouse, "granted", lambda target, occupant: np.zeros(target.shape, bool), {"observations", "states"}),
        (warehouse, "SLOT", 0, {"observations", "states"}),
        (warehouse, "HORIZON", 20, {"ends"}),
    ],
)
def test_comparison_notices_another_rule(monkeypatch, owner, name, value, noticed):
    monkeypatch.setattr(owner, name, value)
    if name == "HORIZON":
        monkeypatch.setattr(warehouse.Clock, "check", lambda *_: None)
    crowded = name == "granted"
    found, _ = differences("rware-tiny-8ag-v2" if crowded else EASY, 2, 30 if crowded else 120, monkeypatch)
    assert noticed <= {what for what, count in found.items() if count}


# --- crowds ---


def crowd(env, generator):
    """Agents in a dense patch of the floor, half of them with a shelf; returns their actions, mostly forward."""
    height, width = env.grid_size
    agents, wide = len(env.agents), 4 if len(env.agents) > 6 else 2
    tall = -(-agents // wide) + 1
    left, top = generator.integers(0, width - wide + 1), generator.integers(0, height - tall + 1)
    places, facing = generator.permutation(wide * tall), generator.integers(0, 4, agents)
    actions = np.where(generator.random(agents) < 0.85, warehouse.FORWARD, generator.integers(0, 5, agents))
    if agents > 3 and generator.random() < 0.1:
        circle = [0, 1, wide + 1, wide]
        places = np.append(circle, places[~np.isin(places, circle)])
        facing[:4], actions[:4] = [3, 1, 2, 0], warehouse.FORWARD
    directions = list(type(env.agents[0].dir))
    for shelf, (y, x) in zip(env.shelfs, np.argwhere(env.highways == 0), strict=True):
        shelf.x, shelf.y = int(x), int(y)
    free = {(shelf.x, shelf.y): shelf for shelf in env.shelfs}
    for agent, place, way in zip(env.agents, places[:agents], facing, strict=True):
        agent.x, agent.y, agent.dir = int(left + place % wide), int(top + place // wide), directions[way]
        below = free.pop((agent.x, agent.y), None)
        agent.carrying_shelf = below if generator.random() < 0.5 else None
    for agent in env.agents:
        if env.highways[agent.y, agent.x] and generator.random() < 0.5:
            _, agent.carrying_shelf = free.popitem()
            agent.carrying_shelf.x, agent.carrying_shelf.y = agent.x, agent.y
    env._cur_steps = 0
    env._recalc_grid()
    return actions


def crowds(name, count, patch=None):
    """Cells ``[count, A]`` of the agents after one step from many crowds: ours, the reference's, those before."""
    env, generator = reference(name), np.random.default_rng(8)
    env.reset(seed=3)
    if patch is not None:
        lowest_agent_first(env, patch)
    task = Warehouse(count, name)
    task.reset(episode_seeds(0, 0, count))
    actions, theirs = np.zeros((count, task.spec.agents), np.int64), np.zeros((count, task.spec.agents), np.int64)
    for index in range(count):
        actions[index] = crowd(env, generator)
        to_ours(env, task, index)
        env.step(actions[index].tolist())
        theirs[index] = [number(agent, task.layout) for agent in env.agents]
    before = task.world.place
    task.step(actions)
    return task.world.place, theirs, before


def followers(before, after):
    """``[count, A, A]``: which agent drove into the cell of which other."""
    return ((after[:, :, None] == before[:, None, :]) & (after != before)[:, :, None]).astype(int)


@pytest.mark.parametrize("name", [EASY, "rware-tiny-3ag-v2", "rware-tiny-4ag-v2", "rware-small-9ag-v2"])
def test_crowds_move_as_in_the_reference(monkeypatch, name):
    agents = layout_of(name).agents
    ours, theirs, before = crowds(name, 300, monkeypatch if agents > 3 else None)
    np.testing.assert_array_equal(ours, theirs)
    follows = followers(before, ours)
    assert follows.sum() > 10, "no queue moved"
    assert not np.trace(follows @ follows, axis1=1, axis2=2).any(), "two agents swapped places"
    if agents > 3:
        assert np.trace(np.linalg.matrix_power(follows, 4), axis1=1, axis2=2).any(), "no circle turned"


def test_the_reference_differs_from_us_only_between_queues_of_one_length():
    ours, theirs, before = crowds("rware-small-9ag-v2", 300)
    other = (ours != theirs).any(axis=1)
    assert 0 < other.mean() < 0.1
    # As many agents drove, but not the same ones: the longest queues were equally long.
    np.testing.assert_array_equal((ours != before).sum(axis=1), (theirs != before).sum(axis=1))


@pytest.mark.parametrize(
    ("target", "occupant", "moves"),
    [
        ([1, 2, 9], [1, 2, 3], [1, 1, 1]),  # a queue into an empty cell
        ([9, 9, 1], [3, 3, 1], [0, 1, 1]),  # the longer queue goes
        ([9, 9, 7], [3, 3, 3], [1, 0, 1]),  # of two equal ones the lower agent
        ([1, 0, 1], [1, 0, 1], [0, 0, 0]),  # no swap, and who waits for it stays
        ([1, 1, 5], [1, 1, 3], [0, 0, 1]),  # nobody drives into one that stays
        ([1, 2, 3, 0], [1, 2, 3, 0], [1, 1, 1, 1]),  # a circle turns
        ([1, 2, 3, 0, 0], [1, 2, 3, 0, 0], [1, 1, 1, 1, 0]),  # without who waits for it
    ],
)
def test_right_of_way(target, occupant, moves):
    np.testing.assert_array_equal(granted(np.array([target]), np.array([occupant])), np.array([moves], dtype=bool))


# --- starts ---


def start_counts(places, facings, requests, cells):
    """How often each cell was an agent's, each direction an agent's, each cell that of a requested shelf."""
    sizes = (cells, 4, cells)
    return [np.bincount(np.ravel(v), minlength=n) for v, n in zip((places, facings, requests), sizes, strict=True)]


def test_episodes_start_as_in_the_reference():
    task, env = Warehouse(1500, EASY), reference(EASY)
    task.reset(episode_seeds(6, 0, 1500))
    layout = task.layout
    requests, held = task.world.requests()
    assert not held.any() and not task.world.load.any() and (task.world.place[:, 0] != task.world.place[:, 1]).all()
    assert (task.world.standing.sum(axis=1) == len(layout.slots)).all()
    theirs = []
    for seed in range(400):
        env.reset(seed=seed)
        places, facings = [number(agent, layout) for agent in env.agents], [agent.dir.value for agent in env.agents]
        theirs.append((places, facings, [number(shelf, layout) for shelf in env.request_queue]))
    ours = start_counts(task.world.place, task.world.facing, requests, layout.cells)
    theirs = start_counts(*zip(*theirs, strict=True), layout.cells)
    for our, their, support in zip(ours, theirs, (layout.floor, np.arange(4), layout.slots), strict=True):
        assert set(np.flatnonzero(our)) == set(support) >= set(np.flatnonzero(their))
        assert chisquare(our[support]).pvalue > 0.01
        assert chi2_contingency([our[support], their[support]]).pvalue > 0.01
    uneven = ours[0][layout.floor] + 10 * (np.arange(len(layout.floor)) < 20)
    assert chisquare(uneven).pvalue < 0.01, "the test is blind"


def test_any_other_shelf_is_requested_after_a_delivery():
    task = Warehouse(4000, EASY)
    task.reset(np.repeat(episode_seeds(6, 0, 1), 4000))
    first, goal = task.world.requests()[0][0, 0], task.layout.goals[0]
    task._seeds = episode_seeds(9, 0, 4000)
    task.world.cells[:, first] &= ~np.uint16(CARGO)
    task.world.cells[:, goal] |= SHELF | REQUESTED | HELD | 1 << AGENT
    before = np.flatnonzero(task.world.cells[0] & REQUESTED)
    assert (task._deliver() == 1).all()
    after = task.world.requests()[0]
    assert after.shape == (4000, task.layout.requests) and not (after == goal).any()
    new = after[~np.isin(after, before)]
    candidates = np.setdiff1d(task.layout.slots, [first, *before])
    assert set(new) == set(candidates) and chisquare(np.bincount(new)[candidates]).pvalue > 0.01


# --- purity ---


def trajectory(task, seeds, actions):
    """Everything an episode shows, as a list of arrays with the environment first."""
    shown = [task.reset(seeds)]
    for joint in actions:
        step = task.step(joint)
        shown += [step.observations, step.reward, step.truncated, task.state(), task.progress(), task.heuristic()]
        shown += list(task.features().values())
    return shown


def busy_actions(name, seeds, steps):
    """Actions ``[steps, E, A]`` that deliver: those of the scripted policy, disturbed."""
    task, generator, joint = make_task(name, len(seeds)), np.random.default_rng(3), []
    task.reset(seeds)
    for _ in range(steps):
        noise = generator.integers(0, 5, (len(seeds), task.spec.agents))
        joint.append(np.where(generator.random(noise.shape) < 0.9, task.heuristic(), noise))
        task.step(joint[-1])
    return np.array(joint)


@pytest.mark.parametrize("name", [EASY, "rware-tiny-6ag-v2"])
def test_an_episode_depends_on_its_seed_and_actions_only(name):
    seeds = episode_seeds(12, 0, 19)
    actions = busy_actions(name, seeds, 40)
    whole = trajectory(make_task(name, 19), seeds, actions)
    assert sum(reward.sum() for reward in whole[2::15]) > 0
    for members in ([4], [18, 0, 4]):
        part = trajectory(make_task(name, len(members)), seeds[members], actions[:, members])
        for all_of_them, some in zip(whole, part, strict=True):
            np.testing.assert_array_equal(all_of_them[members], some)


def test_reset_leaves_the_others_alone():
    seeds, where = episode_seeds(7, 0, 4), np.array([False, True, False, True])
    actions = busy_actions(EASY, seeds, 60)
    task, twin, fresh = Warehouse(4), Warehouse(4), Warehouse(4)
    task.reset(seeds)
    twin.reset(seeds)
    for joint in actions[:30]:
        before = task.step(joint).observations
        twin.step(joint)
    kept = before.copy()
    again = task.reset(seeds, where)
    np.testing.assert_array_equal(before, kept)  # the successor outlives the reset
    np.testing.assert_array_equal(again[~where], before[~where])
    np.testing.assert_array_equal(again[where], fresh.reset(seeds)[where])
    for late, early in zip(actions[30:], actions[:30], strict=True):
        mixed = task.step(np.where(where[:, None], early, late)).observations
        np.testing.assert_array_equal(mixed[where], fresh.step(early).observations[where])
        np.testing.assert_array_equal(mixed[~where], twin.step(late).observations[~where])
    np.testing.assert_array_equal(task.progress(), np.where(where, fresh.progress(), twin.progress()))
    np.testing.assert_array_equal(task.state(), np.where(where[:, None], fresh.state(), twin.state()))


# --- declarations ---


def road(layout, start, ends):
    """Moves from one place to the nearest of several over highways, by graph search."""
    networkx = needed("networkx")
    slots = {(int(layout.x[c]), int(layout.y[c])) for c in layout.slots}
    floor = networkx.grid_2d_graph(layout.width, layout.height)
    inner = floor.subgraph([node for node in floor if node not in slots or node == start])
    moves = networkx.single_source_shortest_path_length(inner, start)
    return min(moves.get(end, 1 + min(moves.get(side, 999) for side in floor[end])) for end in ends)


def by_hand(task, index):
    """The features of one episode, cell by cell and agent by agent."""

    def places(cells):
        return [(int(layout.x[cell]), int(layout.y[cell])) for cell in cells]

    def moves(a, b):
        return abs(a[0] - b[0]) + abs(a[1] - b[1])

    layout, load = task.layout, task.world.load[index]
    agents, position, goals = range(len(load)), places(task.world.place[index]), places(layout.goals)
    content = dict(zip(places(layout.floor), task.world.cells[index, layout.floor].tolist(), strict=True))
    standing = [place for place, c in content.items() if c & SHELF and not c & HELD]
    wanted = [place for place in standing if content[place] & REQUESTED]
    free = [place for place in places(layout.slots) if place not in standing]
    nearest = [min(wanted, key=lambda place, a=a: moves(place, position[a]), default=None) for a in agents]
    ways = [((0, -1), (0, 1), (-1, 0), (1, 0))[facing] for facing in task.world.facing[index]]
    ahead = [(x + right, y + down) for (x, y), (right, down) in zip(position, ways, strict=True)]
    fetches = [nearest[a] if load[a] == 0 else None for a in agents]
    others = [[b for b in agents if b != a] for a in agents]
    return {
        "holds_requested": [load[a] == 2 for a in agents],
        "holds_unrequested": [load[a] == 1 for a in agents],
        "pickup_distance": [0 if load[a] == 2 or not wanted else moves(position[a], nearest[a]) for a in agents],
        "delivery_distance": [road(layout, position[a], goals) if load[a] == 2 else 14 for a in agents],
        "return_distance": [road(layout, position[a], free) if load[a] == 1 else 0 for a in agents],
        "blocked": [
            ahead[a] not in content or content[ahead[a]] >> AGENT > 0 or (load[a] > 0 and ahead[a] in standing)
            for a in agents
        ],
        "requests_held": (load == 2).sum() / layout.requests,
        "contested": [sum(fetches[a] is not None and fetches[a] == fetches[b] for b in others[a]) for a in agents],
        "spacing": np.mean([moves(position[a], position[b]) for a in agents for b in others[a]]),
    }


def test_features_and_progress_from_the_cells():
    name, seeds = "rware-tiny-4ag-v2", episode_seeds(2, 0, 8)
    task, seen, best = make_task(name, 8), dict.fromkeys(FEATURE_VALUES, 0), np.zeros((8, 4))
    task.reset(seeds)
    for time, joint in enumerate(busy_actions(name, seeds, 60)):
        goes_to_goal = task.features(["delivery_distance"])["delivery_distance"] == 1
        step = task.step(joint)
        values = task.features()
        lifted = np.where(values["holds_requested"] == 1, 1 - values["delivery_distance"] / 28, 0)
        delivers = goes_to_goal & (step.reward > 0)[:, None] & (values["holds_unrequested"] == 1)
        best = np.maximum(best, np.where(delivers, 1, lifted))
        np.testing.assert_allclose(task.progress(), best.mean(axis=1), atol=1e-6)
        for index in range(8) if time % 10 == 9 else ():
            for feature, value in by_hand(task, index).items():
                np.testing.assert_allclose(values[feature][index], np.float32(value), atol=1e-6, err_msg=feature)
                seen[feature] += np.sum(values[feature][index])
    assert all(seen.values()), "a feature was 0 all the time"
    assert best.max() == 1 and (values["delivery_distance"] < 14).any()
    assert list(task.features(["spacing"])) == ["spacing"]


@pytest.mark.parametrize("name", [EASY, "rware-tiny-1ag-v2", "rware-tiny-12ag-easy-v2", "rware-medium-3ag-hard-v2"])
@pytest.mark.parametrize("kind", ["random", "scripted"])
def test_features_stay_inside_their_bounds(name, kind):
    task, generator = make_task(name, 30), np.random.default_rng(0)
    task.reset(episode_seeds(3, 0, 30))
    before = task.progress()
    for _ in range(60):
        actions = generator.integers(0, 5, (30, task.spec.agents)) if kind == "random" else task.heuristic()
        task.step(actions)
        values, progress = task.features(), task.progress()
        assert list(values) == [feature.name for feature in task.spec.features]
        for feature in task.spec.features:
            value = values[feature.name]
            assert value.dtype == np.float32
            assert value.shape == ((30,) if feature.scope == "team" else (30, task.spec.agents))
            assert feature.low <= value.min() and value.max() <= feature.high, feature.name
        assert progress.dtype == np.float32 and (before <= progress).all() and progress.max() <= 1
        assert 0 <= task.state().min() and task.state().max() <= 1
        before = progress
    requests, held = task.world.requests()
    assert (
        requests.shape == (30, task.layout.requests) and (held.sum(axis=1) == (task.world.load == 2).sum(axis=1)).all()
    )
    assert (task.world.standing.sum(axis=1) + (task.world.load > 0).sum(axis=1) == len(task.layout.slots)).all()


def played(name, episodes, policy):
    """Sparse returns ``[E]`` of one whole episode per environment, mean progress, and whether it moved first."""
    task = make_task(name, episodes)
    task.reset(episode_seeds(1, 0, episodes))
    total, progress, moved_first = np.zeros(episodes), 0.0, False
    for _ in range(HORIZON):
        step = task.step(policy(task))
        total += step.reward
        progress += task.progress().mean() / HORIZON
        moved_first |= bool(task.progress().any() and not total.any())
    assert step.truncated.all() and total.max() < task.spec.max_return
    return total, progress, moved_first


@pytest.mark.parametrize(("name", "least"), [(EASY, 30), ("rware-tiny-2ag-v2", 28), ("rware-small-4ag-v2", 32)])
def test_the_scripted_policy_scores(name, least):
    total, progress, moved_first = played(name, 16, lambda task: task.heuristic())
    assert total.mean() > least and progress > 0.9 and moved_first


def test_a_random_policy_hardly_scores():
    generator = np.random.default_rng(1)
    total, progress, moved_first = played(EASY, 128, lambda task: generator.integers(0, 5, (128, 2)))
    assert total.mean() < 0.3 and 0.02 < progress < 0.4 and moved_first


def test_max_return_by_hand():
    # A slot is 4 moves from a goal: 5 steps, then 49 times 10; two of 28 shelves can be held when one is drawn.
    assert make_task(EASY, 1).spec.max_return == pytest.approx(2 * 50 / (1 - 2 / 28))
    assert make_task("rware-tiny-15ag-easy-v2", 1).spec.max_return == 2 * HORIZON


@pytest.mark.parametrize("name", [EASY, "rware-large-19ag-easy-v2", "rware-tiny-1ag-v2"])
def test_specification_is_consistent(name):
    task = make_task(name, 2)
    spec = task.spec
    assert make_task(spec.name, 2).spec == spec and spec.name == name
    assert task.reset(episode_seeds(0, 0, 2)).shape == (2, spec.agents, spec.observation_size)
    assert task.state().shape == (2, spec.state_size) and spec.actions == len(ACTION_NAMES)
    assert spec.action_names[spec.idle_action] == "stay" and spec.horizon == HORIZON


def test_the_task_without_an_id_is_the_smallest_easy_one():
    assert make_task("warehouse", 1).spec == make_task(EASY, 1).spec


def test_a_picture_shows_the_floor():
    task = Warehouse(2)
    task.reset(episode_seeds(0, 0, 2))
    while not task.step(task.heuristic()).reward[1]:
        pass
    picture = task.draw(1)
    colours = [shape.colour for shape in picture.shapes]
    assert (picture.width, picture.height) == (10, 11)
    assert (colours.count("floor"), colours.count("agent"), colours.count("goal")) == (110, 2, 4)
    assert colours.count("wall") == 32 - 4 and [shape.label for shape in picture.shapes].count("G") == 2
    held = int((task.world.load[1] == 2).sum())
    assert picture.caption == f"1 delivered, {held} of 4 requested shelves held"


# --- misuse ---


@pytest.mark.parametrize("actions", [np.zeros((2, 3), int), np.zeros((2, 2)), np.full((2, 2), 5), np.full((2, 2), -1)])
def test_wrong_actions_are_refused(actions):
    task = Warehouse(2)
    task.reset(episode_seeds(0, 0, 2))
    with pytest.raises(ValueError, match="warehouse.step got actions .* expected"):
        task.step(actions)


def test_an_ended_episode_is_not_stepped():
    task, still = Warehouse(2), np.zeros((2, 2), dtype=np.int64)
    with pytest.raises(RuntimeError, match="reset"):
        task.step(still)
    task.reset(episode_seeds(0, 0, 2))
    for _ in range(HORIZON):
        step = task.step(still)
    assert step.truncated.all() and not step.terminated.any()
    with pytest.raises(RuntimeError, match="reset"):
        task.step(still)


def test_every_id_of_the_reference_is_known_or_cannot_be_played():
    reference(EASY)
    registered = importlib.import_module("gymnasium").envs.registry
    ours = {f"rware-{s}-{n}ag{d}-v2" for s in SIZES for d in REQUESTS_PER_AGENT for n in range(1, MAX_AGENTS + 1)}
    assert {name for name in registered if name.startswith("rware-")} == ours
    refused = set()
    for name in ours:
        try:
            layout = layout_of(name)
        except ValueError:
            refused.add(name)
        else:
            kwargs = registered[name].kwargs
            assert (layout.agents, layout.requests) == (kwargs["n_agents"], kwargs["request_queue_size"])
    # Nothing is requested, or everything: then the reference fails at its reset or at the first delivery.
    nothing, everything = {f"rware-{size}-1ag-hard-v2" for size in SIZES}, range(16, 20)
    assert refused == nothing | {f"rware-tiny-{agents}ag-easy-v2" for agents in everything}


@pytest.mark.parametrize("size", SIZES)
def test_floors_are_those_of_the_reference(size):
    name = f"rware-{size}-2ag-v2"
    env, layout = reference(name), layout_of(name)
    assert env.grid_size == (layout.height, layout.width)
    highway = layout.highway.reshape(layout.height + 2, layout.width + 2)[1:-1, 1:-1]
    np.testing.assert_array_equal(highway, env.highways)
    assert [(layout.x[goal], layout.y[goal]) for goal in layout.goals] == env.goals


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("rware-tiny-20ag-v2", "expected rware-SIZE-Nag-v2"),
        ("rware-img-tiny-2ag-v2", "choose such an id"),
        ("rware-tiny-02ag-v2", "choose such an id"),
        ("rware-tiny-1ag-hard-v2", "requests 0 of its 32 shelves"),
        ("rware-tiny-16ag-easy-v2", "requests 32 of its 32 shelves"),
    ],
)
def test_other_ids_are_refused_in_one_sentence(name, words):
    with pytest.raises(ValueError) as caught:
        make_task(name, 1)
    assert words in str(caught.value) and repr(name) in str(caught.value) and "\n" not in str(caught.value)
