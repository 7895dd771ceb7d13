"""Discs with inertia in a plane: the physics of mpe2's ``World`` for a whole batch of environments.

Layout: one float64 array ``[rows, E]`` with the environment on the fast axis, so that every operation is one long
contiguous loop. Rows: x velocities (B), y velocities (B), x positions (B), y positions (B) of the ``B`` bodies that
move, then x (F) and y (F) of the ``F`` fixed ones. Distances are computed once per step and serve whoever asks for
them (rewards, features, progress) and the contact forces of the next step.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import combinations

import numpy as np

TIME_STEP = 0.1
DAMPING = 0.25
CONTACT_FORCE = 100.0
CONTACT_MARGIN = 0.001

ACTION_NAMES = ("stay", "left", "right", "down", "up")
_DIRECTIONS = np.array([[0.0, -1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, -1.0, 1.0]])


class Particles:
    """``E`` worlds of bodies that push themselves and each other.

    ``push`` [B] is the force of a body's own actions (its mass is 1) and ``size`` [B] its radius; ``top_speed`` [B],
    where given, is what its speed is cut to. Fixed bodies of radius ``fixed_size`` stand in the way; where that is
    None they are mere places.
    """

    def __init__(
        self,
        environments: int,
        push: np.ndarray,
        size: np.ndarray,
        fixed: int,
        fixed_size: float | None = None,
        top_speed: np.ndarray | None = None,
    ) -> None:
        bodies = len(push)
        pairs = list(combinations(range(bodies), 2))
        meetings = [(body, place) for body in range(bodies) for place in range(fixed)]
        self.bodies, self.fixed, self.environments = bodies, fixed, environments
        self.coordinates = np.zeros((4 * bodies + 2 * fixed, environments))
        self.velocity = self.coordinates[: 2 * bodies].reshape(2, bodies, environments)
        """``[2, B, E]``, as ``position``; ``places`` is ``[2, F, E]``."""
        self.position = self.coordinates[2 * bodies : 4 * bodies].reshape(2, bodies, environments)
        self.places = self.coordinates[4 * bodies :].reshape(2, fixed, environments)

        self.touching_distance = np.array([size[i] + size[j] for i, j in pairs])
        """``[pairs]``: two bodies touch below this distance between their centres."""
        solid = [] if fixed_size is None else meetings
        self._touching = np.array([*self.touching_distance, *(size[body] + fixed_size for body, _ in solid)])[:, None]
        self._push, self._top_speed = push[:, None], None if top_speed is None else top_speed[:, None]

        couples, contacts = len(pairs) + len(meetings), len(self._touching)
        self._first_rows, self._second_rows = _difference_rows(bodies, fixed, pairs, meetings)
        self._force_rows = _force_rows(bodies, pairs + [(body, bodies + place) for body, place in solid])
        self._difference = np.empty((2, couples, environments))
        self._square = np.empty((2, couples, environments))
        self._distance = np.empty((couples, environments))
        self.pair_distance = self._distance[: len(pairs)]
        """``[pairs, E]``: between the bodies ``(0, 1), (0, 2) .. (1, 2) ..``."""
        self.place_distance = self._distance[len(pairs) :].reshape(bodies, fixed, environments)
        """``[B, F, E]``: from each body to each fixed one."""
        self._contact = np.empty((contacts, environments))
        self._contact_force = np.empty((2, 2, contacts, environments))
        self._forces = np.empty((1 + len(self._force_rows), 2, bodies, environments))
        self._total_force = np.empty((2, bodies, environments))
        self._travel = np.empty((2, bodies, environments))

    def measure(self) -> None:
        """Compute the distances of the current positions; call it whenever positions were set."""
        np.take(self.coordinates, self._first_rows, axis=0, out=self._difference, mode="clip")
        np.take(self.coordinates, self._second_rows, axis=0, out=self._square, mode="clip")
        self._difference -= self._square
        np.square(self._difference, out=self._square)
        np.add(self._square[0], self._square[1], out=self._distance)
        np.sqrt(self._distance, out=self._distance)

    def pictured(self, body: int, view: float) -> np.ndarray:
        """Where a body is in a picture of the square from ``-view`` to ``view``: ``[E, 2]``, from its upper left."""
        x, y = self.position[:, body]
        return np.stack([view + x, view - y], axis=1)

    @contextmanager
    def pictured_at(self, body: int, places: np.ndarray, view: float) -> Iterator[None]:
        """A body at ``places [E, 2]`` of such a picture while the block lasts."""
        kept = self.position[:, body].copy()
        self.position[:, body] = np.stack([places[:, 0] - view, view - places[:, 1]])
        self.measure()
        try:
            yield
        finally:
            self.position[:, body] = kept
            self.measure()

    def move(self, actions: np.ndarray) -> None:
        """One ``World.step`` under ``actions [B, E]``: contact forces, then positions, then velocities."""
        self._push_apart()
        np.take(_DIRECTIONS, actions, axis=1, out=self._forces[0], mode="clip")
        self._forces[0] *= self._push
        # Every body adds its own push, then the others in order, as the reference does. The reduced axis is the
        # slowest one, so the order of the sum (hence every bit) does not depend on the size of the batch.
        force = np.add.reduce(self._forces, axis=0, out=self._total_force)
        np.multiply(self.velocity, TIME_STEP, out=self._travel)
        self.position += self._travel
        self.velocity *= 1.0 - DAMPING
        force *= TIME_STEP
        self.velocity += force
        if self._top_speed is not None:
            self.velocity *= self._top_speed / np.maximum(lengths(self.velocity), self._top_speed)
        self.measure()

    def _push_apart(self) -> None:
        """Contact forces (softened springs, ``World.get_collision_force``) into ``forces[1:]``."""
        contact, distance = self._contact, self._distance[: len(self._contact)]
        np.subtract(self._touching, distance, out=contact)
        contact /= CONTACT_MARGIN
        np.logaddexp(0.0, contact, out=contact)
        contact *= CONTACT_MARGIN * CONTACT_FORCE
        # Two bodies on the very same point have no direction (nan in the reference): no force then.
        contact /= np.maximum(distance, 1e-100)
        np.multiply(self._difference[:, : len(contact)], contact, out=self._contact_force[0])
        np.negative(self._contact_force[0], out=self._contact_force[1])
        rows = self._contact_force.reshape(4 * len(contact), self.environments)
        rows.take(self._force_rows, axis=0, out=self._forces[1:], mode="clip")


def lengths(vectors: np.ndarray) -> np.ndarray:
    """Lengths ``[..., E]`` of ``vectors [2, ..., E]``."""
    x, y = np.square(vectors)
    return np.sqrt(x + y)


def steer(error: np.ndarray, slack: float = 0.02) -> np.ndarray:
    """The actions ``[..., E]`` that reduce ``error [2, ..., E]`` along its longer axis; none where both are small."""
    x, y = error
    across = np.abs(x) > np.abs(y)
    action = np.where(across, np.where(x > 0, 2, 1), np.where(y > 0, 4, 3))
    return np.where(np.maximum(np.abs(x), np.abs(y)) < slack, 0, action)


def observation_map(shown: list[list[int]], subtracted: list[list[int | None]], rows: int) -> np.ndarray:
    """The matrix ``[rows, A * O]`` float32 that makes observations of coordinates.

    Entry k of agent i's observation is row ``shown[i][k]`` minus row ``subtracted[i][k]`` (None: minus nothing). A
    product with this matrix of 0, 1 and -1 is exact, whatever the order of its sums.
    """
    matrix = np.zeros((rows, len(shown), len(shown[0])), dtype=np.float32)
    for agent, entries in enumerate(zip(shown, subtracted, strict=True)):
        for column, (plus, minus) in enumerate(zip(*entries, strict=True)):
            matrix[plus, agent, column] += 1.0
            if minus is not None:
                matrix[minus, agent, column] -= 1.0
    return matrix.reshape(rows, -1)


def row_numbers(bodies: int, fixed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Row numbers of velocities ``[2, B]``, positions ``[2, B]`` and places ``[2, F]``."""
    rows = np.arange(4 * bodies + 2 * fixed)
    moving = rows[: 4 * bodies].reshape(2, 2, bodies)
    return moving[0], moving[1], rows[4 * bodies :].reshape(2, fixed)


def _difference_rows(
    bodies: int, fixed: int, pairs: list[tuple[int, int]], meetings: list[tuple[int, int]]
) -> tuple[np.ndarray, np.ndarray]:
    """Rows ``[2, couples]`` to subtract: every pair of bodies, then every body and place, body first."""
    _, position, place = row_numbers(bodies, fixed)
    first = [i for i, _ in pairs + meetings]
    second = [position[:, [j for _, j in pairs]], place[:, [j for _, j in meetings]]]
    return position[:, first], np.concatenate(second, axis=1)


def _force_rows(bodies: int, contacts: list[tuple[int, int]]) -> np.ndarray:
    """Rows ``[others, 2, B]`` of the signed contact forces ``[sign, axis, contact]`` that act on each body."""
    signed = np.arange(4 * len(contacts)).reshape(2, 2, len(contacts))
    acting = [
        sorted((i + j - body, int(body == j), contact) for contact, (i, j) in enumerate(contacts) if body in (i, j))
        for body in range(bodies)
    ]
    rows = np.array([[signed[sign, :, contact] for _, sign, contact in mine] for mine in acting], dtype=np.intp)
    return rows.reshape(bodies, len(acting[0]), 2).transpose(1, 2, 0)
