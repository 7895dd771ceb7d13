"""A recorded episode stepped again: what it looked like, and Phi wherever an agent could have been.

An episode is a pure function of its seed and its actions, so both are enough; features must come out as recorded.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import cast

import numpy as np

from learning_signal.marl.segments.records import BehaviourRecord
from learning_signal.marl.settings import Frozen
from learning_signal.marl.shaping import Potential
from learning_signal.marl.tasks import make_task
from learning_signal.marl.tasks.base import GroundedTask, Task
from learning_signal.marl.tasks.picture import Picture, Shape

MOST_FRAMES = 601
"""Pictures of an episode; of a longer one every second, third ... step is drawn."""
MOST_FIELDS = 51
AGENT = 0
"""Whose place is varied in a field."""

DrawnShape = tuple[str, float, float, float, str, str]
"""Kind, x, y, size, colour and label, as in ``Shape``."""


class NotTheSame(RuntimeError):
    """An episode came out otherwise than it was recorded; one sentence."""


class Scene(Frozen):
    """Pictures of an episode, each thing that is drawn in any of them once."""

    width: float
    height: float
    shapes: tuple[DrawnShape, ...]
    steps: tuple[int, ...]
    """The steps that are drawn, from 0, the start, to the last one."""
    frames: tuple[tuple[int, ...], ...]
    """For each of them the places in ``shapes`` of what is drawn, in order."""
    captions: tuple[str, ...]
    places: tuple[tuple[float, float], ...] | None
    """Where ``AGENT`` is in each; None where agents have no place."""


class Fields(Frozen):
    """Phi of one agent over where it could be, all else being as it was, at some steps of an episode."""

    agent: int
    columns: int
    rows: int
    cell: float
    plane: bool
    """See ``Ground``."""
    steps: tuple[int, ...]
    values: tuple[tuple[float | None, ...], ...]
    """For each step a value for every cell, row by row; None where the agent cannot be."""


def spaced(length: int, most: int) -> tuple[int, ...]:
    """At most ``most`` steps from 0 to ``length``, evenly spaced but for the last one, which is ``length``."""
    stride = max(1, -(-length // (most - 1)))
    return tuple(sorted({*range(0, length + 1, stride), length}))


class Film:
    """Collects the pictures of a task's first environment."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._shapes: dict[Shape, int] = {}
        self._frames: dict[int, tuple[int, ...]] = {}
        self._captions: list[str] = []
        self._places: list[tuple[float, float]] = []
        self._picture = Picture(1.0, 1.0)

    def take(self, step: int) -> None:
        """A picture of the current state."""
        self._picture = self._task.draw(0)
        self._frames[step] = tuple(self._shapes.setdefault(one, len(self._shapes)) for one in self._picture.shapes)
        self._captions.append(self._picture.caption)
        task = grounded(self._task)
        if task is not None:
            x, y = task.places(AGENT)[0].tolist()
            self._places.append((x, y))

    def scene(self) -> Scene:
        """What was taken so far, at least one picture."""
        return Scene(
            width=self._picture.width,
            height=self._picture.height,
            shapes=tuple(
                (one.kind, round(one.x, 4), round(one.y, 4), round(one.size, 4), one.colour, one.label)
                for one in self._shapes
            ),
            steps=tuple(self._frames),
            frames=tuple(self._frames.values()),
            captions=tuple(self._captions),
            places=tuple((round(x, 4), round(y, 4)) for x, y in self._places) or None,
        )


@contextmanager
def made(task_name: str) -> Iterator[Task]:
    """One environment of a task, closed at the end if it has to be."""
    task = make_task(task_name, 1)
    try:
        yield task
    finally:
        if hasattr(task, "close"):
            task.close()


def grounded(task: Task) -> GroundedTask | None:
    """``task`` where its agents have places; else None."""
    return cast(GroundedTask, task) if hasattr(task, "ground") else None


def step_again(task_name: str, record: BehaviourRecord, episode: int, seed: np.uint64) -> Scene:
    """The pictures of an episode of ``record`` that began from ``seed``.

    Raises ``NotTheSame`` where the task does something else than was recorded.
    """
    length = int(record.lengths[episode])
    drawn = spaced(length, MOST_FRAMES)
    with made(task_name) as task:
        film = Film(task)
        task.reset(np.array([seed], np.uint64))
        for step in range(length + 1):
            if step:
                task.step(_joint(record, episode, step - 1))
            _refuse_other(task, record, episode, step)
            if step in drawn:
                film.take(step)
    return film.scene()


def fields_of(
    task_name: str, record: BehaviourRecord, episode: int, seed: np.uint64, potential: Potential
) -> Fields | None:
    """``potential`` over the places of ``AGENT`` along an episode; None where the task has no ground."""
    length = int(record.lengths[episode])
    actions = [_joint(record, episode, step) for step in range(length)]
    found = survey(task_name, seed, [potential], actions, spaced(length, MOST_FIELDS))
    return None if found is None else found[0]


def survey(
    task_name: str, seed: np.uint64, potentials: Sequence[Potential], actions: list[np.ndarray], steps: tuple[int, ...]
) -> list[Fields] | None:
    """As ``fields_of``, for each potential: of the episode to which ``seed`` and joint actions (``[1, A]``) lead."""
    with made(task_name) as one:
        on_ground = grounded(one)
    if on_ground is None:
        return None
    ground, places = on_ground.ground, on_ground.ground.middles()
    task = cast(GroundedTask, make_task(task_name, len(places)))
    task.reset(np.full(len(places), seed, np.uint64))
    values: list[list[tuple[float | None, ...]]] = [[] for _ in potentials]
    for step in range(max(steps) + 1):
        if step:
            task.step(np.repeat(actions[step - 1], len(places), axis=0))
        if step in steps:
            features, can_be = task.features_at(AGENT, places)
            for of_one, potential in zip(values, potentials, strict=True):
                phi = zip(potential(features)[:, AGENT].tolist(), can_be.tolist(), strict=True)
                of_one.append(tuple(rounded(value) if there else None for value, there in phi))
    return [
        Fields(
            agent=AGENT,
            columns=ground.columns,
            rows=ground.rows,
            cell=ground.cell,
            plane=ground.plane,
            steps=steps,
            values=tuple(of_one),
        )
        for of_one in values
    ]


def rounded(value: float) -> float:
    """To five significant digits: more than a picture shows."""
    return float(f"{value:.5g}") + 0.0  # a zero without a sign


def _joint(record: BehaviourRecord, episode: int, step: int) -> np.ndarray:
    """The joint actions of a step, ``[1, A]`` or ``[1, A, D]``; of agents that have left any will do."""
    taken = record.actions[step, episode]
    taken = np.nan_to_num(taken) if taken.dtype.kind == "f" else np.maximum(taken, 0).astype(np.int64)
    return taken[None]


def _refuse_other(task: Task, record: BehaviourRecord, episode: int, step: int) -> None:
    for name, values in task.features().items():
        recorded = record.features[name][step, episode]
        if not np.array_equal(values[0], recorded):
            raise NotTheSame(
                f"Played again, {name} at step {step} is {np.round(values[0], 4).tolist()} where "
                f"{np.round(recorded, 4).tolist()} was recorded: the task is not the one that was recorded."
            )
