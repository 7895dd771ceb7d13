"""Copies of a foreign environment distributed over worker processes, and when that is faster.

The results are those of one `Batch`, bit for bit: a copy knows nothing of the others.
"""

from __future__ import annotations

import multiprocessing
import os
import time
import traceback
import weakref
from collections.abc import Collection
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

import numpy as np

from learning_signal.marl.errors import EnvironmentFailed, sentence
from learning_signal.marl.processes import available_cores, cause_of_death, follow_parent, start_process
from learning_signal.marl.tasks.base import Step
from learning_signal.marl.tasks.foreign.batch import Batch
from learning_signal.marl.tasks.foreign.declaration import Source, load
from learning_signal.marl.tasks.foreign.member import Member
from learning_signal.marl.tasks.picture import Picture

WORTH_SECONDS = 0.005
"""Seconds of work per joint step from which worker processes pay; their overhead is about a tenth of that."""


class Workers:
    """``count`` copies shared out to ``workers`` processes; the same methods as `Batch`.

    Spawned processes import the main module, so a script needs its ``if __name__ == "__main__"`` guard. A worker that
    dies ends them all with ``EnvironmentFailed``; they end with this process, however it ends.
    """

    def __init__(self, source: Source, count: int, workers: int) -> None:
        self._name = source.name
        self._ends = np.cumsum([len(part) for part in np.array_split(np.arange(count), workers)])
        self._processes: list[tuple[BaseProcess, Connection]] = []
        self._finalizer = weakref.finalize(self, _stop, self._processes)
        try:
            for size in np.diff(self._ends, prepend=0):
                self._processes.append(_start(source.name, int(size)))
            self._collect()
        except BaseException:
            self.close()
            raise

    def reset(self, seeds: np.ndarray, where: np.ndarray) -> np.ndarray:
        """As `Batch.reset`."""
        return np.concatenate(self._call("reset", seeds, where))

    def step(self, actions: np.ndarray) -> Step:
        """As `Batch.step`."""
        return Step(*map(np.concatenate, zip(*self._call("step", actions), strict=True)))

    def state(self) -> np.ndarray:
        """As `Batch.state`."""
        return np.concatenate(self._call("state"))

    def features(self, names: Collection[str]) -> dict[str, np.ndarray]:
        """As `Batch.features`."""
        parts = self._call("features", names=list(names))
        return {name: np.concatenate([part[name] for part in parts]) for name in names}

    def allowed(self) -> np.ndarray:
        """As `Batch.allowed`."""
        return np.concatenate(self._call("allowed"))

    def progress(self) -> np.ndarray:
        """As `Batch.progress`."""
        return np.concatenate(self._call("progress"))

    def heuristic(self) -> np.ndarray:
        """As `Batch.heuristic`."""
        return np.concatenate(self._call("heuristic"))

    def draw(self, index: int) -> Picture:
        """As `Batch.draw`."""
        worker = int(np.searchsorted(self._ends, index, side="right"))
        self._send(worker, ("draw", (index - (self._ends[worker - 1] if worker else 0),), {}))
        return self._collect([worker])[0]

    def close(self) -> None:
        """Stop every worker; a second call is a no-op."""
        self._finalizer()

    def _call(self, method: str, *arrays: np.ndarray, **named: Any) -> list[Any]:
        """Ask every worker for its part; ``arrays`` are shared out."""
        parts = list(zip(*(np.split(array, self._ends[:-1]) for array in arrays), strict=True))
        for worker in range(len(self._processes)):
            self._send(worker, (method, parts[worker] if arrays else (), named))
        return self._collect()

    def _send(self, worker: int, message: tuple) -> None:
        if not self._finalizer.alive:
            raise EnvironmentFailed(
                f"The workers of {self._name} were stopped, expected running ones: make the task again."
            )
        try:
            self._processes[worker][1].send(message)
        except OSError:
            raise self._died(worker) from None

    def _collect(self, workers: Collection[int] | None = None) -> list[Any]:
        """The answers of all workers (or these), every one received before a failure of any is raised."""
        answers = []
        for worker in range(len(self._processes)) if workers is None else workers:
            try:
                answers.append(self._processes[worker][1].recv())
            except (EOFError, OSError):
                raise self._died(worker) from None
            except BaseException:  # interrupted: what comes next would be taken for another question's answer
                self.close()
                raise
        for kind, content in answers:
            if kind == "failed":
                text, details = content
                raise EnvironmentFailed(text) from RuntimeError(details)
        return [content for _, content in answers]

    def _died(self, worker: int) -> EnvironmentFailed:
        process, _ = self._processes[worker]
        process.join(timeout=1)
        cause = cause_of_death(process.exitcode)
        self.close()
        return EnvironmentFailed(
            f"A worker that stepped {self._name} died ({cause}), expected it to answer: free memory if that was short, "
            "look for a crash in the environment, and resume."
        )


def worth(member: Member, environments: int) -> int:
    """How many worker processes are worth their overhead for so many copies; 1: none. ``member`` is stepped to measure.

    Inside a worker process (of segments, say) none are: it may have no children, and its siblings use the other cores.
    """
    most = min(idle_cores(), environments)
    if most < 2 or multiprocessing.current_process().daemon:
        return 1
    layout, generator = member.layout, np.random.default_rng(0)
    agents = len(layout.agents)
    observations, alive = np.zeros((agents, layout.observation_size), np.float32), np.zeros(agents, bool)
    member.reset(np.uint64(0), observations)
    began, steps = time.perf_counter(), 0
    while steps < 50 and time.perf_counter() - began < 0.05:
        draws = generator.random((agents, layout.actions))
        # The largest of independent draws is each of those allowed with the same probability.
        choices = np.where(member.allowed, draws, -1.0).argmax(axis=1)
        joint = (2 * draws - 1).astype(np.float32) if layout.continuous else choices
        _, terminated, truncated = member.step(joint, observations, alive)
        steps += 1
        if terminated or truncated:
            member.reset(np.uint64(steps), observations)
    batch_seconds = environments * (time.perf_counter() - began) / steps
    return max(1, min(most, int(batch_seconds / WORTH_SECONDS)))


def idle_cores() -> int:
    """Idle cores, by the load average of the last minute, of which this process is assumed to be one."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    return max(1, available_cores() - max(0, round(load) - 1))


def _start(name: str, count: int) -> tuple[BaseProcess, Connection]:
    return start_process(_serve, (name, count), name="environment-worker")


def _stop(processes: list[tuple[BaseProcess, Connection]]) -> None:
    for process, connection in processes:
        connection.close()
        process.terminate()
    for process, _ in processes:
        process.join(timeout=1)
        if process.is_alive():
            process.kill()
            process.join()


def _serve(connection: Connection, name: str, count: int) -> None:
    """A worker process: make ``count`` copies, say so, then answer until the pipe closes or the parent is gone."""
    follow_parent()
    batch: Batch | None = None
    method, given = "__init__", ()
    named: dict[str, Any] = {}
    answer: tuple[str, Any]
    while True:
        try:
            if batch is None:
                batch = Batch(load(name), count)
                answer = ("done", None)
            else:
                answer = ("done", getattr(batch, method)(*given, **named))
        except Exception as error:
            text = str(error) if isinstance(error, EnvironmentFailed) else f"{name} failed ({sentence(error)})."
            answer = ("failed", (text, traceback.format_exc()))
        try:
            connection.send(answer)
            method, given, named = connection.recv()
        except (EOFError, OSError):
            return
