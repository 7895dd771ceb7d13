"""Records what overcooked-ai does, for tests/marl/tasks/test_overcooked.py: its steps, whatever ours would be.

    python -m venv reference-venv && reference-venv/bin/pip install overcooked-ai==1.1.0 pillow
    reference-venv/bin/pip install --no-deps . && reference-venv/bin/python tests/support/record_overcooked.py

It needs pygame and gym, which nothing else here may have beside pygame-ce and gymnasium: so its steps are kept.
Actions are random, or of our scripted policy, or both cooks want the same pot or counter.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

DATA = Path(__file__).parents[1] / "marl" / "tasks" / "data" / "overcooked.npz"
SCRIPTED = (0.0, 0.0, 0.4, 0.7, 0.85, 0.95, 0.2, 0.5)
"""How often the cooks of each episode follow our scripted policy."""
INTERACTS = (0.17, 0.5, 0.5, 0.5, 0.3, 0.3, 0.2, 0.2)
"""How often they interact otherwise."""
CROWDED = np.array([False] * 6 + [True] * 2)
"""Whether they otherwise, most of the time, both go and interact with one and the same cell."""
CHANGES = 12
"""Steps after which that is another cell."""
STEPS = 400
ITEMS = {"onion": 1, "dish": 2}
SOUP = 2
"""A soup of n onions is the item ``SOUP + n``."""
TICKS = 22
"""A pot with n onions is ``n * TICKS + 1 + ticks``, where ticks are -1 before somebody started it."""


def item(thing: Any) -> int:
    """What a cook holds, or what lies on a counter."""
    if thing is None:
        return 0
    return SOUP + len(thing.ingredients) if thing.name == "soup" else ITEMS[thing.name]


def shown(world: Any, state: Any) -> list[int]:
    """A state of the reference as numbers: of both cooks cell, direction and item; then of every cell what is there."""
    directions = ((0, -1), (0, 1), (1, 0), (-1, 0))
    cells = [0] * (world.width * world.height)
    for (x, y), thing in state.objects.items():
        pot = world.terrain_mtx[y][x] == "P"
        cells[y * world.width + x] = len(thing.ingredients) * TICKS + 1 + thing._cooking_tick if pot else item(thing)
    cooks = [
        (y * world.width + x, directions.index(cook.orientation), item(cook.held_object))
        for cook in state.players
        for x, y in [cook.position]
    ]
    return [*sum(cooks, ()), *cells]


def towards(task: Any, cell: np.ndarray) -> np.ndarray:
    """What each cook ``[E, 2]`` does to go and interact with the cells ``cell [E]``."""
    from learning_signal.marl.tasks.overcooked.policy import way

    kitchens = task.kitchens
    nobody = np.full(len(cell), -1)
    return np.stack([way(task.layout, kitchens.place[a], kitchens.facing[a], cell, nobody) for a in (0, 1)], axis=1)


def record(layout: str) -> dict[str, np.ndarray]:
    """Actions ``[N, T, 2]``, what the reference then shows ``[N, T, 6 + P]`` and its rewards ``[N, T]``, all uint8."""
    from overcooked_ai_py.mdp.actions import Action
    from overcooked_ai_py.mdp.overcooked_mdp import OvercookedGridworld

    from learning_signal.marl.tasks import make_task

    world, task = OvercookedGridworld.from_layout_name(layout), make_task("overcooked", len(SCRIPTED), layout=layout)
    random, states = np.random.default_rng(7), [world.get_standard_start_state() for _ in SCRIPTED]
    actions, after, rewards = [], [], []
    task.reset(np.arange(len(SCRIPTED), dtype=np.uint64))
    for t in range(STEPS):
        drawn = random.integers(0, 5, (len(SCRIPTED), 2))
        drawn[random.random(drawn.shape) < np.array(INTERACTS)[:, None]] = 5
        if t % CHANGES == 0:
            shared = random.choice([*task.layout.pots, *task.layout.counters], len(SCRIPTED))
        crowd = CROWDED[:, None] & (random.random(drawn.shape) < 0.8)
        drawn = np.where(crowd, towards(task, shared), drawn)
        joint = np.where(random.random(drawn.shape) < np.array(SCRIPTED)[:, None], task.heuristic(), drawn)
        task.step(joint)
        earned = []
        for number, (state, both) in enumerate(zip(states, joint, strict=True)):
            states[number], infos = world.get_state_transition(state, [Action.INDEX_TO_ACTION[one] for one in both])
            earned.append(sum(infos["sparse_reward_by_agent"]))
        actions.append(joint)
        after.append([shown(world, state) for state in states])
        rewards.append(earned)
    steps = {"actions": actions, "after": after, "rewards": rewards}
    return {f"{layout}/{name}": np.array(each).swapaxes(0, 1).astype(np.uint8) for name, each in steps.items()}


def main() -> None:
    from learning_signal.marl.tasks.overcooked.layout import LAYOUTS

    DATA.parent.mkdir(exist_ok=True)
    recorded: dict[str, np.ndarray] = {}
    for layout in LAYOUTS:
        recorded |= record(layout)
    np.savez_compressed(DATA, **recorded)


if __name__ == "__main__":
    main()
