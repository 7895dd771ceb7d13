"""Task `overcooked`: step for step what overcooked-ai did, what is seen and declared, the scripted policy."""

from __future__ import annotations

import numpy as np
import pytest

from learning_signal.marl.randomness import episode_seeds
from learning_signal.marl.tasks import make_task
from learning_signal.marl.tasks.overcooked import state as rules
from learning_signal.marl.tasks.overcooked.features import FASTEST, FEATURE_VALUES, HORIZON
from learning_signal.marl.tasks.overcooked.layout import FLOOR, LAYOUTS, POT, SIGNS, layout_of
from learning_signal.marl.tasks.overcooked.state import DISH, INTERACT, NOTHING, ONION, SOUP, STAY, THIN_SOUP, Kitchens
from tests.support.record_overcooked import DATA, TICKS

DELIVERED = {
    "cramped_room": 220,
    "asymmetric_advantages": 300,
    "coordination_ring": 260,
    "forced_coordination": 240,
    "counter_circuit_o_1order": 160,
}
"""What the scripted policy earns, as its docstring says."""


@pytest.fixture(scope="module")
def recorded():
    with np.load(DATA) as data:
        return dict(data)


def kitchen(layout: str, environments: int = 1):
    task = make_task("overcooked", environments, layout=layout)
    task.reset(episode_seeds(0, 0, environments))
    return task


# --- against the reference ---


def shown(kitchens: Kitchens) -> np.ndarray:
    """Our states ``[E, 6 + P]`` in the numbers of the record; a thin soup is one of fewer than three onions."""
    cooks = np.stack([kitchens.place, kitchens.facing, kitchens.held], axis=2).swapaxes(0, 1)
    content = kitchens.content
    ticks = np.where(rules.POT_STARTED, rules.POT_TICKS, -1)
    pots = np.where(content == 0, 0, rules.POT_ONIONS[content] * TICKS + 1 + ticks[content])
    cells = np.where(kitchens.layout.kind == POT, pots, content)
    return np.concatenate([cooks.reshape(len(content), -1), cells], axis=1)


def alike(theirs: np.ndarray, kind: np.ndarray) -> np.ndarray:
    """The record ``[N, 6 + P]`` with items as ours are numbered."""
    numbers = np.array([NOTHING, ONION, DISH, THIN_SOUP, THIN_SOUP, SOUP])
    lies = np.concatenate([[False, False, True] * 2, kind != POT])
    return np.where(lies, numbers[np.where(lies, theirs, 0)], theirs)


def differing(recorded, layout: str) -> int:
    """In how many steps a state or a reward differs from the record."""
    actions, after, rewards = (recorded[f"{layout}/{each}"] for each in ("actions", "after", "rewards"))
    task, found = kitchen(layout, len(actions)), 0
    for t in range(actions.shape[1]):
        step = task.step(actions[:, t].astype(np.int64))
        same = (shown(task.kitchens) == alike(after[:, t], task.layout.kind)).all(axis=1)
        found += int((~(same & (step.reward == rewards[:, t]))).sum())
        assert not step.terminated.any() and (step.truncated == (t + 1 == HORIZON)).all()
    return found


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_step_is_the_reference_s(recorded, layout):
    assert recorded[f"{layout}/actions"].shape == (8, HORIZON, 2)
    assert differing(recorded, layout) == 0


def test_the_record_has_what_can_happen(recorded):
    """Every rule of the table is used somewhere in the record, and so is every way of getting in each other's way."""
    used, clashes, together = set(), {"cell": 0, "swap": 0}, 0
    for layout in LAYOUTS:
        actions = recorded[f"{layout}/actions"].astype(np.int64)
        task = kitchen(layout, len(actions))
        for t in range(HORIZON):
            kitchens, plan, joint = task.kitchens, task.layout, actions[:, t].T
            target = plan.next.ravel()[joint * plan.cells + kitchens.place]
            clashes["cell"] += int((target[0] == target[1]).sum())
            clashes["swap"] += int(((target[0] == kitchens.place[1]) & (target[1] == kitchens.place[0])).sum())
            ahead = kitchens.place + plan.steps[kitchens.facing]
            both = (joint == INTERACT).all(axis=0) & (ahead[0] == ahead[1])
            together += int((both & (plan.kind[ahead[0]] == POT)).sum())
            for row, hand, acts in zip(ahead, kitchens.held, joint, strict=True):
                content = kitchens.content[np.arange(len(row)), row]
                rows = acts == INTERACT
                used |= set(
                    zip(plan.kind[row[rows]].tolist(), content[rows].tolist(), hand[rows].tolist(), strict=True)
                )
            task.step(actions[:, t])
    changes = (rules._CONTENT_AFTER != rules._POT[:, None]) | (rules._HELD_AFTER != np.arange(rules.ITEMS))
    missing = {tuple(each) for each in np.argwhere(changes).tolist()} - used
    assert (missing, min(clashes.values()) > 20, together > 20) == (set(), True, True)


@pytest.mark.parametrize("what", ["cooks slower", "no thin soups", "first comes last", "may swap", "pays less"])
def test_the_comparison_notices_another_rule(recorded, monkeypatch, what):
    if what == "cooks slower":
        monkeypatch.setattr(rules, "_COOKED", np.where(rules.POT_TICKS == 7, rules._POT, rules._COOKED))
    elif what == "no thin soups":
        after = rules._CONTENT_AFTER.copy()
        after[POT, 2, NOTHING] = 2
        monkeypatch.setattr(rules, "_CONTENT_AFTER", after)
    elif what == "first comes last":
        original = Kitchens._interact
        monkeypatch.setattr(Kitchens, "step", backwards(original))
    elif what == "may swap":
        monkeypatch.setattr(Kitchens, "_move", swapping)
    else:
        monkeypatch.setattr(rules, "_REWARD", rules._REWARD / 2)
    assert sum(differing(recorded, layout) for layout in ("asymmetric_advantages", "coordination_ring")) > 0


def backwards(interact):
    """A step in which the second cook interacts before the first."""

    def step(self, actions):
        reward = np.zeros(self.environments, np.float32)
        for agent in (1, 0):
            interact(self, agent, np.flatnonzero(actions[:, agent] == INTERACT), reward)
        self._move(actions.T)
        pots = self.layout.pots
        self.content[:, pots] = rules._COOKED.take(self.content[:, pots])
        return reward

    return step


def swapping(self, chosen):
    target = self.layout.next.ravel().take(chosen * self.layout.cells + self.place)
    self.place = np.where(target[0] == target[1], self.place, target)
    self.facing = np.where(chosen < STAY, chosen, self.facing)


# --- what is seen ---


def busy(layout: str, environments: int = 64, steps: int = 150, scripted: float = 0.7):
    """Kitchens in the middle of different episodes, and every state on the way."""
    task, random = kitchen(layout, environments), np.random.default_rng(2)
    for _ in range(steps):
        joint = random.integers(0, 6, (environments, 2))
        task.step(np.where(random.random(joint.shape) < scripted, task.heuristic(), joint))
        yield task


@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_observation_says_everything_from_the_eyes_of_its_agent(layout):
    floor, items = len(layout_of(layout).floor), np.array([NOTHING, ONION, DISH, SOUP, THIN_SOUP])
    for task in busy(layout, 16, 60):
        kitchens, plan = task.kitchens, task.layout
        seen = task.step(np.full((16, 2), STAY)).observations
        sizes = [floor, 4, 4, len(SIGNS)] * 2 + [4 * len(plan.pots), 4 * len(plan.counters)]
        parts = np.split(seen, np.cumsum(sizes)[:-1], axis=2)
        for agent in range(2):
            for which, cook in ((0, agent), (4, 1 - agent)):
                place, facing, held, ahead = (part[:, agent] for part in parts[which : which + 4])
                assert (plan.floor[place.argmax(axis=1)] == kitchens.place[cook]).all() and (
                    place.sum(axis=1) == 1
                ).all()
                assert (facing.argmax(axis=1) == kitchens.facing[cook]).all()
                assert (held @ items[1:] == kitchens.held[cook]).all()
                faced = plan.kind[kitchens.place[cook] + plan.steps[kitchens.facing[cook]]]
                assert (ahead.argmax(axis=1) == faced).all()
            pots = parts[8][:, agent].reshape(16, -1, 4)
            expected = [rules.POT_ONIONS / 3, rules.POT_STARTED, rules.POT_TICKS / 20, rules.POT_READY]
            assert np.allclose(pots, np.stack(expected, axis=1)[kitchens.in_pots])
            assert (parts[9][:, agent].reshape(16, -1, 4) @ items[1:] == kitchens.on_counters).all()
        assert (task.state() == seen[:, 0]).all()


def test_a_distance_is_what_a_cook_walks():
    """Against a plain search from every floor cell, with another cook in the way or not."""
    for name in LAYOUTS:
        plan = layout_of(name)
        for number, blocked in [(-1, None), *enumerate(plan.floor.tolist())]:
            for start in plan.floor.tolist():
                if start == blocked:
                    continue
                reached, front, length = {}, {start}, 0
                while front:
                    reached |= dict.fromkeys(front, length)
                    nearby = {cell + step for cell in front for step in plan.steps.tolist()}
                    front = {cell for cell in nearby if plan.kind[cell] == FLOOR and cell != blocked} - reached.keys()
                    length += 1
                for cell in range(plan.cells):
                    beside = [reached[cell + step] for step in plan.steps.tolist() if cell + step in reached]
                    assert plan.moves[number, start, cell] == min(beside, default=plan.far)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_features_stay_inside_their_bounds_and_reach_them(layout):
    spec = kitchen(layout).spec
    lowest, highest = {}, {}
    for scripted in (0.3, 0.9):
        for task in busy(layout, 48, scripted=scripted):
            values = task.features()
            assert list(values) == [feature.name for feature in spec.features] == list(FEATURE_VALUES)
            for feature in spec.features:
                value = values[feature.name]
                assert value.dtype == np.float32 and value.shape == ((48,) if feature.scope == "team" else (48, 2))
                lowest[feature.name] = min(lowest.get(feature.name, np.inf), value.min())
                highest[feature.name] = max(highest.get(feature.name, -np.inf), value.max())
    for feature in spec.features:
        assert feature.low <= lowest[feature.name] < highest[feature.name] <= feature.high, feature.name
        if feature.high <= 1:
            assert (lowest[feature.name], highest[feature.name]) == (0, pytest.approx(feature.high)), feature.name


def test_features_and_progress_along_one_soup():
    """cramped_room, step by step: the onions are two steps from the pot, which is between the cooks."""
    task, north, south, east, west, stay, act = kitchen("cramped_room"), *range(6)

    def now(*names):
        values = task.features(names)
        return [values[name][0].tolist() for name in names]

    def does(first, second=stay, times=1):
        return sum(float(task.step(np.array([[first, second]])).reward[0]) for _ in range(times))

    assert now("onion_distance", "pot_distance", "pot_filling", "spacing") == [[1, 0], [6, 6], 0, 3]
    for onions in (1, 2, 3):
        does(west), does(north), does(west), does(act)
        assert now("onion_distance", "pot_distance") == [[0, 0], [1, 6]]
        does(east), does(north), does(act)
        assert now("pot_filling")[0] == pytest.approx(onions / 3)
        assert task.progress()[0] == pytest.approx(0.15 * onions)
    assert now("onion_distance", "pot_distance", "dish_distance", "soup_cooked") == [[0, 0], [0, 0], [6, 6], 0]
    does(act)
    assert now("pot_filling", "soup_cooked", "spoiled_pots", "dish_distance") == [1, pytest.approx(0.05), 0, [2, 3]]
    assert task.progress()[0] == pytest.approx(0.6)
    does(south), does(west), does(south), does(act)
    assert now("dish_distance", "soup_distance") == [[0, 3], [2, 6]]
    does(north), does(east), does(north), does(stay, times=12)
    assert now("soup_cooked", "soup_distance", "serving_distance") == [1, [0, 6], [6, 6]]
    assert task.progress()[0] == pytest.approx(0.7)
    does(act)
    assert now("soup_stage", "soup_cooked", "pot_filling") == [pytest.approx(0.85), 1, 1]
    assert now("serving_distance", "soup_distance") == [[2, 6], [0, 6]]
    assert task.progress()[0] == pytest.approx(0.85)
    does(east, west)  # cooks do not swap places: it turns
    assert now("serving_distance", "spacing") == [[2, 6], 1]
    does(south), does(east), does(south)
    assert does(act) == 20.0
    assert now("soup_stage", "pot_filling", "soup_cooked") == [0, 0, 0] and task.progress()[0] == 1.0


def test_a_pot_that_is_started_too_early_earns_nothing():
    task, north, _, east, west, stay, act = kitchen("cramped_room"), *range(6)
    for action in (west, north, west, act, east, north, act, act):
        task.step(np.array([[action, stay]]))
    values = task.features(["pot_filling", "soup_cooked", "spoiled_pots", "dish_distance"])
    assert [value[0].tolist() for value in values.values()] == [0, 0, 1, [6, 6]]
    assert task.progress()[0] == pytest.approx(0.15) and rules._REWARD[..., THIN_SOUP].max() == 0


# --- episodes, the scripted policy, the drawing ---


def test_environments_do_not_touch_each_other():
    task, alone = kitchen("coordination_ring", 8), kitchen("coordination_ring")
    random = np.random.default_rng(0)
    actions = random.integers(0, 6, (60, 8, 2))
    for joint in actions:
        together = task.step(joint)
        one = alone.step(joint[5:6])
        assert (together.observations[5] == one.observations[0]).all() and together.reward[5] == one.reward[0]
    where = np.arange(8) == 2
    after = task.reset(episode_seeds(1, 0, 8), where)
    assert (after[~where] == together.observations[~where]).all()
    assert (after[2] == kitchen("coordination_ring").reset(episode_seeds(3, 0, 1))[0]).all()
    assert task.progress()[2] == 0


@pytest.mark.parametrize(("layout", "earned"), DELIVERED.items())
def test_the_scripted_policy_delivers_and_random_cooks_do_not(layout, earned):
    task, total = kitchen(layout), 0.0
    for _ in range(HORIZON):
        total += float(task.step(task.heuristic()).reward[0])
    assert total == earned <= task.spec.max_return
    noisy, random, returns = kitchen(layout, 32), np.random.default_rng(1), np.zeros((2, 32))
    for row, share in enumerate((0.8, 0.0)):
        noisy.reset(episode_seeds(0, 0, 32))
        for _ in range(200):
            joint = random.integers(0, 6, (32, 2))
            if share:
                joint = np.where(random.random(joint.shape) < share, noisy.heuristic(), joint)
            returns[row] += noisy.step(joint).reward
    assert returns[0].min() >= 40 and returns[1].max() <= 20


def test_no_pot_is_faster_than_the_declared_bound():
    """Two cooks at one pot, everything handed to them: the fastest there can be."""
    task, steps, last = kitchen("cramped_room"), [], 0
    kitchens, pot = task.kitchens, task.layout.pots[0]
    kitchens.place[:, 0] = pot + task.layout.width
    for t in range(HORIZON):
        content = kitchens.content[0, pot]
        ready = bool(rules.POT_READY[content])
        kitchens.held[:, 0] = (DISH, ONION) if ready else (ONION, ONION) if content < 3 else (NOTHING, SOUP)
        task.step(np.full((1, 2), INTERACT))
        if ready:
            steps.append(t - last)
            last = t
    assert set(steps[1:]) == {FASTEST} and len(steps) <= HORIZON // FASTEST


def test_what_is_drawn_is_there():
    for task in busy("asymmetric_advantages", 4, 80):
        for number in range(4):
            shapes = task.draw(number).shapes
            cooks = [each for each in shapes if each.colour == "agent"]
            arrows = ["^v><"[facing] for facing in task.kitchens.facing[:, number]]
            hands = ["" if not item else "odst"[item - 1] for item in task.kitchens.held[:, number]]
            assert [each.label for each in cooks] == [a + b for a, b in zip(arrows, hands, strict=True)]
            ready = int((rules.POT_READY & (rules.POT_ONIONS == 3))[task.kitchens.in_pots[number]].sum())
            assert sum(each.colour == "done" for each in shapes) == ready
    assert {each.label for each in shapes} >= {"O", "D", "S"}


def test_a_layout_that_is_none_is_refused():
    with pytest.raises(ValueError, match="layout='kitchen', expected one of: cramped_room, asymmetric_advantages"):
        make_task("overcooked?layout=kitchen", 1)
