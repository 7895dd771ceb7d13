"""The task `foraging`: against its reference step for step, how episodes begin, features, heuristic, ids, misuse."""

from __future__ import annotations

import importlib
import os
from collections import Counter

import numpy as np
import pytest

from learning_signal.marl.randomness import episode_seeds
from learning_signal.marl.tasks import foraging, foraging_board, make_task
from learning_signal.marl.tasks.foraging import HORIZON, LOAD, Foraging
from learning_signal.marl.tasks.foraging_board import LEVELS, Board, parse_id, spawn

PUBLISHED = (
    "Foraging-8x8-2p-1f-v3",
    "Foraging-8x8-2p-2f-coop-v3",
    "Foraging-2s-8x8-2p-2f-coop-v3",
    "Foraging-10x10-2p-1f-v3",
    "Foraging-10x10-3p-3f-v3",
    "Foraging-15x15-3p-4f-v3",
)
CROWDED = ("Foraging-5x5-9p-4f-v3", "Foraging-2s-6x6-5p-3f-v3", "Foraging-2s-7x7-4p-4f-coop-v3")


def reference_module():
    """lbforaging: a development dependency, so its absence fails in CI and skips elsewhere."""
    if os.environ.get("CI"):
        return importlib.import_module("lbforaging")
    return pytest.importorskip("lbforaging")


def reference_env(name):
    """A new reference environment, without Gymnasium's wrappers."""
    reference_module()
    import gymnasium

    return gymnasium.make(name, disable_env_checker=True).unwrapped


# --- policies: a task -> actions [E, A] ---


def random_policy(seed):
    generator = np.random.default_rng(seed)
    return lambda task: generator.integers(0, 6, (task.environments, task.spec.agents))


def mixed_policy(seed):
    """The heuristic's actions, but every fifth a random one."""
    generator = np.random.default_rng(seed)

    def act(task):
        actions = task.heuristic()
        anything = generator.integers(0, 6, actions.shape)
        return np.where(generator.random(actions.shape) < 0.2, anything, actions)

    return act


# --- parity with the reference ---


def put(env, task, index):
    """Make the reference begin where environment ``index`` of ``task`` does; its observations ``[A, O]``."""
    env.reset(seed=0)
    env.field[:] = board_of(task, index)
    size = task.game.size
    for player, cell, level in zip(env.players, task._cell[:, index], task._level[:, index], strict=True):
        player.position, player.level = (int(cell) // size, int(cell) % size), int(level)
    env._food_spawned = env.field.sum()
    env._gen_valid_moves()
    return np.stack(env.test_make_gym_obs())


def board_of(task, index):
    """Levels of the food ``[s, s]`` on the board of one environment."""
    field = np.zeros(task.game.size**2, np.int64)
    for food in task._food[:, index]:
        if food < task._board.absent * LEVELS:
            field[food // LEVELS] = food % LEVELS
    return field.reshape(task.game.size, task.game.size)


def state_of(env, task):
    """The joint state of the reference environment, from its own variables."""
    last, foods = task.game.size - 1, np.zeros((task.game.foods, 3))
    for slot, (row, column) in enumerate(zip(*env.field.nonzero(), strict=True)):
        foods[slot] = row / last, column / last, env.field[row, column] / task.game.heaviest
    players = [(*np.divide(player.position, last), player.level / 2) for player in env.players]
    left = env.field.sum() / max(env._food_spawned, 1)
    return np.concatenate([foods.ravel(), np.ravel(players), [left]])


def compare(name, episodes, policy, seed=0):
    """Drive `Foraging` and lbforaging from the same states with the same actions, one episode per environment.

    Returns how often each thing differed (over all steps), and how often something worth comparing happened.
    """
    task, found = Foraging(episodes, name), Counter()
    observations = task.reset(episode_seeds(seed, 0, episodes))
    envs = [reference_env(name) for _ in range(episodes)]
    for index, env in enumerate(envs):
        found["observation"] += not np.array_equal(put(env, task, index), observations[index])
    active = np.ones(episodes, bool)
    for time in range(HORIZON):
        before, actions = task._cell.copy(), policy(task)
        step, state = task.step(actions), task.state()
        for index in np.flatnonzero(active):
            env = envs[index]
            theirs, rewards, ended, _, _ = env.step(list(actions[index]))
            cells = [row * task.game.size + column for row, column in (player.position for player in env.players)]
            all_eaten = env.field.sum() == 0
            found["observation"] += not np.array_equal(np.stack(theirs), step.observations[index])
            found["reward"] += abs(sum(rewards) - step.reward[index]) > 1e-6
            found["end"] += ended != (step.terminated[index] or step.truncated[index])
            found["end"] += all_eaten != step.terminated[index] or (step.terminated & step.truncated)[index]
            found["cells"] += cells != task._cell[:, index].tolist()
            found["field"] += not np.array_equal(env.field, board_of(task, index))
            found["state"] += np.abs(state_of(env, task) - state[index]).max() > 1e-6
            found["steps"] += 1
            found["meals"] += step.reward[index] > 0
            found["all eaten"] += all_eaten
            found["shared cells"] += len(set(cells)) < len(cells)
            found["swaps"] += swapped(before[:, index], task._cell[:, index])
        ended = step.terminated | step.truncated
        active &= ~ended
        if not active.any():
            break
        task.reset(episode_seeds(seed, time, episodes), ended)
    return found


def swapped(before, after):
    agents = range(len(before))
    return any(before[i] != before[j] == after[i] and after[j] == before[i] for i in agents for j in agents if i != j)


def differing(found):
    return {key: found[key] for key in ("observation", "reward", "end", "cells", "field", "state") if found[key]}


@pytest.mark.parametrize(("count", "mixed", "meals"), [(1, 6, 4), pytest.param(6, 10, 8, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", PUBLISHED + CROWDED)
def test_foraging_equals_the_reference_step_for_step(name, count, mixed, meals):
    found = compare(name, count, random_policy(1), seed=1) + compare(name, mixed, mixed_policy(2), seed=2)
    assert not differing(found)
    assert found["meals"] >= meals and found["all eaten"] >= 2, "hardly anything was eaten"


@pytest.mark.parametrize("count", [3, pytest.param(6, marks=pytest.mark.slow)])
def test_crowds_swap_places_and_share_cells_as_in_the_reference(count):
    found = sum((compare(name, count, random_policy(3), seed=3) for name in CROWDED), Counter())
    assert not differing(found)
    assert found["swaps"] > 10 and found["shared cells"] > 10


@pytest.mark.slow
@pytest.mark.parametrize("name", [*PUBLISHED, *CROWDED, "Foraging-2s-19x19-9p-4f-v3", "Foraging-12x12-6p-2f-coop-v3"])
def test_many_episodes_equal_the_reference(name):
    assert not differing(compare(name, 60, random_policy(5), seed=5) + compare(name, 60, mixed_policy(6), seed=6))


def _everybody_moves(task, chosen):
    target = task._board.next.ravel().take(chosen * task._board.cells + task._cell)
    task._cell = np.where((target[:, None] == task._food_cell).any(axis=1), task._cell, target)
    task._locate()


def _onto_food(task, chosen):
    target = task._board.next.ravel().take(chosen * task._board.cells + task._cell)
    task._cell = np.where((target[:, None] == target).sum(axis=1) > 1, task._cell, target)
    task._locate()


def _fixed_slots(task):
    order = np.arange(task.game.foods)[::-1]
    original_list_foods(task)
    task._food_place, task._food_level = task._food_place[:, order], task._food_level[order]


original_list_foods = Foraging._list_foods
original_load = Foraging._load


@pytest.mark.parametrize(
    ("owner", "attribute", "replacement", "notices"),
    [
        (Foraging, "_move", _everybody_moves, "cells"),
        (Foraging, "_move", _onto_food, "cells"),
        (Foraging, "_load", lambda task, loading: original_load(task, loading | True), "field"),
        (Foraging, "_load", lambda task, loading: 1.01 * original_load(task, loading), "reward"),
        (foraging, "HORIZON", HORIZON - 1, "end"),
        (foraging_board, "SHORT_SIGHT", 3, "observation"),
        (Foraging, "_left", lambda task: task._food_level.sum(axis=0), "state"),
    ],
)
def test_comparison_notices_other_rules(monkeypatch, owner, attribute, replacement, notices):
    monkeypatch.setattr(owner, attribute, replacement)
    found = compare("Foraging-2s-6x6-5p-3f-v3", 5, mixed_policy(2), seed=2)
    found += compare("Foraging-2s-6x6-5p-3f-v3", 5, random_policy(2), seed=2)
    assert found[notices] > 0


def test_comparison_notices_another_order_of_foods(monkeypatch):
    monkeypatch.setattr(Foraging, "_list_foods", _fixed_slots)
    assert compare("Foraging-8x8-2p-2f-coop-v3", 2, random_policy(2))["observation"] > 0


# --- how episodes begin ---


def reference_starts(name, count):
    """Fields ``[count, s, s]`` and ``(row, column, level)`` of the players ``[count, A, 3]`` of new environments."""
    env = reference_env(name)
    env.reset(seed=11)
    fields, players = [], []
    for _ in range(count):
        for player in env.players:
            player.position = None  # as in a new environment: otherwise their last places keep others away
        env.reset()
        fields.append(env.field.copy())
        players.append([(*player.position, player.level) for player in env.players])
    return np.array(fields), np.array(players)


def our_starts(name, count):
    task = Foraging(count, name)
    task.reset(episode_seeds(11, 0, count))
    players = np.stack([*np.divmod(task._cell, task.game.size), task._level], axis=-1).swapaxes(0, 1)
    return np.array([board_of(task, index) for index in range(count)]), players.astype(int)


def excess(one, other):
    """How many deviations more two samples differ than by chance (chi-square of two samples, rare values pooled)."""
    labels, ids = np.unique(np.concatenate([one, other]), axis=0, return_inverse=True)
    ids = ids.ravel()
    counts = np.stack([np.bincount(part, minlength=len(labels)) for part in (ids[: len(one)], ids[len(one) :])])
    common = counts.sum(axis=0) >= 16
    table = np.column_stack([counts[:, common], counts[:, ~common].sum(axis=1)]).astype(float)
    table = table[:, table.sum(axis=0) > 0]
    expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0) / table.sum()
    freedom = max(table.shape[1] - 1, 1)
    return (((table - expected) ** 2 / expected).sum() - freedom) / np.sqrt(2 * freedom)


def differences(ours, theirs):
    """`excess` of what describes a beginning: places and levels, alone and together."""
    views = {
        "first agent": lambda field, players: players[:, 0, :2],
        "last agent": lambda field, players: players[:, -1, :2],
        "agents apart": lambda field, players: players[:, 0, :2] - players[:, 1, :2],
        "agents' levels": lambda field, players: players[:, :, 2],
        "food's cells": lambda field, players: np.array([np.flatnonzero(one)[[0, -1]] for one in field]),
        "food by first agent": lambda field, players: np.array(
            [np.flatnonzero(one)[0] // 6 - player[0, 0] for one, player in zip(field, players, strict=True)]
        ),
        "foods' levels": lambda field, players: np.sort(field.reshape(len(field), -1), axis=1)[:, -4:],
        "weight by strength": lambda field, players: np.stack(
            [field.max(axis=(1, 2)), np.sort(players[:, :, 2], axis=1)[:, :3].sum(axis=1)], axis=1
        ),
    }
    return {name: excess(view(*ours), view(*theirs)) for name, view in views.items()}


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("Foraging-6x6-2p-2f-v3", 1500),
        ("Foraging-7x7-4p-3f-v3", 1000),
        ("Foraging-5x5-3p-4f-coop-v3", 80),  # with no room for the last food the reference tries 1000 times
    ],
)
def test_episodes_begin_as_in_the_reference(name, count):
    found = differences(our_starts(name, 4 * count), reference_starts(name, count))
    assert max(found.values()) < 4.0, found


def test_comparison_notices_another_beginning(monkeypatch):
    theirs = reference_starts("Foraging-6x6-2p-2f-v3", 1500)
    original = Board.__init__

    def food_anywhere(self, size):
        original(self, size)
        self.inside[:] = True

    def food_in_line(self, size):
        original(self, size)
        self.apart = np.abs(self.place[:, : size**2, None] - self.place[:, None, : size**2]).max(axis=0) > 1

    def low_cells(free, draw):
        return original_pick(free, draw**1.5)

    original_pick = foraging_board._pick
    for owner, name, wrong, notices in (
        (Board, "__init__", food_anywhere, "food's cells"),
        (Board, "__init__", food_in_line, "food's cells"),
        (foraging_board, "_pick", low_cells, "first agent"),
        (foraging_board, "LIFTERS", 1, "weight by strength"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, wrong)
            assert differences(our_starts("Foraging-6x6-2p-2f-v3", 6000), theirs)[notices] > 6.0


@pytest.mark.parametrize("count", [800, pytest.param(3000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", PUBLISHED + CROWDED)
def test_beginnings_keep_the_rules(name, count):
    game = parse_id(name)
    board = Board(game.size)
    cells, levels, foods = spawn(game, board, episode_seeds(4, 0, count))
    assert cells.min() >= 0 and cells.max() < board.cells and set(np.unique(levels)) == {1, 2}
    heaviest = np.sort(levels, axis=0)[:3].sum(axis=0)
    there = foods < board.absent * LEVELS
    weight = np.where(there, foods % LEVELS, heaviest)
    assert (weight == heaviest).all() if game.coop else ((weight >= 1) & (weight <= heaviest)).all()
    assert (np.diff(foods, axis=0) >= 0).all()
    for index in range(count):
        food = foods[there[:, index], index] // LEVELS
        assert len(set(cells[:, index]) | set(food)) == game.players + len(food)
        assert board.inside[food].all() and board.apart[np.ix_(food, food)][~np.eye(len(food), dtype=bool)].all()
        if len(food) < game.foods:
            room = board.inside & board.apart[food].all(axis=0)
            room[cells[:, index]] = False
            assert not room.any()
    assert there.all() or game.size < 8


# --- purity ---


def trajectory(task, seeds, actions):
    """Everything the episodes show, as a list of arrays with the environment first; ended ones begin again."""
    shown = [task.reset(seeds)]
    for joint in actions:
        step = task.step(joint)
        shown += [step.observations, step.reward, step.terminated, step.truncated, task.state(), task.progress()]
        shown += [task.heuristic(), *task.features().values()]
        ended = step.terminated | step.truncated
        shown.append(task.reset(seeds, ended))
    return shown


@pytest.mark.parametrize("name", ["Foraging-8x8-2p-2f-coop-v3", "Foraging-2s-6x6-5p-3f-v3", "Foraging-15x15-3p-4f-v3"])
def test_an_episode_depends_on_its_seed_and_actions_only(name):
    seeds = episode_seeds(3, 0, 16)
    task = Foraging(16, name)
    task.reset(seeds)
    policy, actions = mixed_policy(4), []
    for _ in range(HORIZON + 10):
        actions.append(policy(task))
        step = task.step(actions[-1])
        task.reset(seeds, step.terminated | step.truncated)
    whole = trajectory(Foraging(16, name), seeds, actions)
    assert any(step.any() for step in whole[2::17]) and any(step.any() for step in whole[3::17]), "nothing happened"
    for members in ([15, 0, 4], list(range(5, 16))):
        part = trajectory(Foraging(len(members), name), seeds[members], [joint[members] for joint in actions])
        for everything, some in zip(whole, part, strict=True):
            np.testing.assert_array_equal(everything[members], some)


def test_another_seed_is_another_episode():
    task = Foraging(64)
    first = task.reset(episode_seeds(3, 0, 64))
    assert np.array_equal(first, task.reset(episode_seeds(3, 0, 64)))
    other = task.reset(episode_seeds(4, 0, 64))
    assert (first != other).any(axis=(1, 2)).all()


def test_reset_leaves_the_others_alone():
    task = Foraging(4)
    before = task.reset(episode_seeds(7, 0, 4)).copy()
    state = task.state()
    after = task.reset(episode_seeds(8, 0, 4), np.array([False, True, False, True]))
    np.testing.assert_array_equal(after[[0, 2]], before[[0, 2]])
    np.testing.assert_array_equal(task.state()[[0, 2]], state[[0, 2]])
    assert (after[[1, 3]] != before[[1, 3]]).any(axis=(1, 2)).all()


# --- declarations ---


def described(task, index):
    """Features and progress of one environment, from its fields alone and without arrays."""
    size, field = task.game.size, board_of(task, index)
    people = zip(task._cell[:, index].tolist(), task._level[:, index].tolist(), strict=True)
    agents = [(*divmod(cell, size), level) for cell, level in people]
    foods = [(row, column, field[row, column]) for row, column in np.argwhere(field)]

    def steps(one, other):
        return abs(one[0] - other[0]) + abs(one[1] - other[1])

    def strength(food, reach):
        return sum(agent[2] for agent in agents if steps(agent, food) <= reach)

    def reach_of(food):
        return next(reach for reach in range(2 * size) if strength(food, reach) >= food[2])

    spawned = task._spawned[index]
    target = min(foods, key=lambda food: sum(steps(agent, food) for agent in agents), default=None)
    to_target = [steps(agent, target) if foods else 0 for agent in agents]
    lifts = [min(1.0, strength(food, 1) / food[2]) for food in foods]
    pairs = [steps(one, other) for place, one in enumerate(agents) for other in agents[:place]]
    lifted = sum(lift * food[2] for lift, food in zip(lifts, foods, strict=True))
    return {
        "food_left": field.sum() / spawned,
        "team_distance": np.mean(to_target),
        "lifting_distance": min(map(reach_of, foods), default=0),
        "lift_fraction": max(lifts, default=1.0),
        "spacing": np.mean(pairs),
        "nearest_food_distance": [min((steps(agent, food) for food in foods), default=0) for agent in agents],
        "target_distance": to_target,
        "beside_food": [float(not foods or any(steps(agent, food) == 1 for food in foods)) for agent in agents],
    }, 1.0 - (field.sum() - 0.5 * lifted) / spawned


@pytest.mark.parametrize("name", ["Foraging-8x8-2p-2f-coop-v3", "Foraging-2s-6x6-5p-3f-v3", "Foraging-15x15-3p-4f-v3"])
@pytest.mark.parametrize("make_policy", [random_policy, mixed_policy])
def test_features_and_progress_from_the_board(name, make_policy):
    task, policy = Foraging(8, name), make_policy(8)
    task.reset(episode_seeds(9, 0, 8))
    spec, progress_seen = task.spec, []
    for time in range(HORIZON):
        step = task.step(policy(task))
        features, progress = task.features(), task.progress()
        assert list(features) == [feature.name for feature in spec.features]
        for feature in spec.features:
            value = features[feature.name]
            assert value.dtype == np.float32
            assert value.shape == ((8,) if feature.scope == "team" else (8, spec.agents))
            assert feature.low <= value.min() and value.max() <= feature.high, feature.name
            np.testing.assert_array_equal(task.features([feature.name])[feature.name], value)
        assert progress.dtype == np.float32 and progress.min() >= 0 and progress.max() <= 1
        for index in range(8):
            expected, expected_progress = described(task, index)
            for key, value in expected.items():
                np.testing.assert_allclose(features[key][index], value, atol=1e-6, err_msg=key)
            np.testing.assert_allclose(progress[index], expected_progress, atol=1e-6)
        progress_seen.append(progress)
        task.reset(episode_seeds(10, time, 8), step.terminated | step.truncated)
    assert len(np.unique(progress_seen)) >= 3


def returns_of(task, policy, seed):
    """Sparse returns ``[E]`` of one episode per environment."""
    task.reset(episode_seeds(seed, 0, task.environments))
    total, active = np.zeros(task.environments), np.ones(task.environments, bool)
    for time in range(HORIZON):
        step = task.step(policy(task))
        total += step.reward * active
        ended = step.terminated | step.truncated
        active &= ~ended
        task.reset(episode_seeds(seed, time, task.environments), ended)
    return total


@pytest.mark.parametrize("name", PUBLISHED + CROWDED)
def test_the_heuristic_scores_and_random_does_not(name):
    task = Foraging(100, name)
    scripted = returns_of(task, lambda task: task.heuristic(), 1)
    assert scripted.mean() > 0.97 and scripted.max() <= task.spec.max_return + 1e-6
    if name in PUBLISHED:  # a crowd eats whatever it does
        assert returns_of(task, random_policy(1), 1).mean() < 0.5


def test_progress_moves_before_food_is_eaten():
    task = Foraging(200)
    task.reset(episode_seeds(1, 0, 200))
    assert 0.0 <= task.progress().mean() < 0.2
    met = np.zeros(200, bool)
    for _ in range(12):
        met |= (task.features()["food_left"] == 1.0) & (task.progress() > 0.2)
        step = task.step(np.where(task.heuristic() == LOAD, 0, task.heuristic()))
        assert not step.reward.any()
    assert met.mean() > 0.9


def test_a_picture_shows_everything_with_its_level():
    task = Foraging(2, "Foraging-2s-7x7-4p-4f-coop-v3")
    task.reset(episode_seeds(5, 0, 2))
    picture = task.draw(1)
    assert (picture.width, picture.height) == (7, 7) and "step 0" in picture.caption
    agents = [shape for shape in picture.shapes if shape.colour == "agent"]
    foods = [shape for shape in picture.shapes if shape.colour == "goal"]
    places = [int(shape.y) * 7 + int(shape.x) for shape in agents]
    assert places == task._cell[:, 1].tolist()
    assert [shape.label for shape in agents] == [f"{level:g}" for level in task._level[:, 1]]
    shown = {(int(shape.y), int(shape.x)): int(shape.label) for shape in foods}
    field = board_of(task, 1)
    assert shown == {place: field[place] for place in zip(*field.nonzero(), strict=True)}


# --- ids ---


def test_every_registered_id_is_understood_as_it_is_registered():
    reference_module()
    from gymnasium import registry

    registered = {name: one.kwargs for name, one in registry.items() if name.startswith("Foraging")}
    assert len(registered) >= 1920
    for name, options in registered.items():
        if options["grid_observation"]:
            continue
        game = parse_id(name)
        assert game.name == name
        assert options["field_size"] == (game.size, game.size)
        assert (options["players"], options["max_num_food"]) == (game.players, game.foods)
        assert (options["sight"], options["force_coop"]) == (game.sight, game.coop)
        assert options["max_episode_steps"] == HORIZON and options["penalty"] == 0.0
        assert (options["min_player_level"], options["max_player_level"]) == (1, 2)
        assert (options["min_food_level"], options["max_food_level"]) == (1, None)


@pytest.mark.parametrize(
    "name", ["Foraging-8x8-2p-2f-coop-v3", "foraging", "foraging?id=Foraging-8x8-2p-2f-coop", "Foraging-8x8-2p-2f-coop"]
)
def test_one_task_has_one_name(name):
    task = make_task(name, 3)
    assert task.spec.name == "Foraging-8x8-2p-2f-coop-v3" and task.environments == 3


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Foraging-8x8-12p-2f-coop-v3", "has 12 players (expected 2 to 9): the nearest id is 'Foraging-8x8-9p-2f-"),
        ("Foraging-2s-4x4-2p-1f-v3", "has 4 rows (expected 5 to 19): the nearest id is 'Foraging-2s-5x5-2p-1f-v3'"),
        ("Foraging-8x9-2p-1f-v3", "has 9 columns (expected 8, as many as rows): the nearest id is"),
        ("Foraging-8x8-2p-5f-v3", "has 5 foods (expected 1 to 4)"),
        ("Foraging-25x25-1p-5f-v3", "25 rows (expected 5 to 19) and 1 players (expected 2 to 9) and 5 foods"),
        ("Foraging-grid-8x8-2p-1f-v3", "is not understood, expected Foraging[-2s]-SIZExSIZE-PLAYERSp-FOODSf[-coop]-v3"),
        ("Foraging-8x8-2p-1f-v2", "is not understood"),
        ("Foraging-8x8-2p-1f-coop-ind-v3", "is not understood"),
        ("Foraging-08x08-2p-1f-v3", "is not understood"),
        ("foraging?id=", "is not understood"),
    ],
)
def test_wrong_ids_are_one_sentence(name, words):
    with pytest.raises(ValueError) as caught:
        make_task(name, 1)
    assert words in str(caught.value) and "\n" not in str(caught.value)


# --- misuse ---


@pytest.mark.parametrize(
    "actions", [np.zeros((2, 3), np.int64), np.zeros((2, 2)), np.full((2, 2), 6), np.full((2, 2), -1)]
)
def test_wrong_actions_are_refused(actions):
    task = Foraging(2)
    task.reset(episode_seeds(0, 0, 2))
    with pytest.raises(ValueError, match="foraging.step got actions .* expected"):
        task.step(actions)


def test_an_ended_episode_is_not_stepped():
    task = Foraging(2, "Foraging-8x8-2p-1f-v3")
    still = np.zeros((2, 2), np.int64)
    with pytest.raises(RuntimeError, match="reset"):
        task.step(still)
    task.reset(episode_seeds(0, 0, 2))
    for _ in range(HORIZON):
        step = task.step(still)
    assert step.truncated.all() and not step.terminated.any()
    with pytest.raises(RuntimeError, match="reset"):
        task.step(still)

    task.reset(episode_seeds(0, 0, 2))
    ended = np.zeros(2, bool)
    while not ended.any():
        step = task.step(np.where([[True], [False]], task.heuristic(), still))
        ended = step.terminated
    assert ended.tolist() == [True, False] and not step.truncated.any()
    with pytest.raises(RuntimeError, match="foraging.step was called on an ended episode"):
        task.step(still)
    task.reset(episode_seeds(1, 0, 2), ~ended)
    with pytest.raises(RuntimeError, match="reset"):
        task.step(still)
    task.reset(episode_seeds(1, 0, 2), ended)
    task.step(still)


def test_the_last_meal_at_the_time_limit_terminates():
    task = Foraging(2, "Foraging-8x8-2p-1f-v3")
    task.reset(episode_seeds(0, 0, 2))
    for _ in range(HORIZON - 1):
        # Everybody waits beside the food, the second environment for ever.
        task.step(np.where(task.heuristic() == LOAD, 0, task.heuristic()))
    step = task.step(np.where([[True], [False]], task.heuristic(), 0))
    assert step.terminated.tolist() == [True, False] and step.truncated.tolist() == [False, True]


@pytest.mark.parametrize("seeds", [1, 3])
def test_wrong_resets_are_refused(seeds):
    with pytest.raises(ValueError, match="foraging.reset got seeds .* expected"):
        Foraging(2).reset(episode_seeds(0, 0, seeds))


def test_at_least_one_environment():
    with pytest.raises(ValueError, match="environments=0, expected at least 1"):
        Foraging(0)
