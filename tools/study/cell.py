"""A running cell: it trains segments on a shared executor, counts every env step, and keeps the curve of its head."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Literal

from learning_signal.ledger.read.costs import known_sum
from learning_signal.marl.errors import SegmentFailed, SegmentImpossible
from learning_signal.marl.executors.base import Executor
from learning_signal.marl.gate.measure import later_half_mean
from learning_signal.marl.segments.segment import SegmentResult, SegmentSpec, rollout_size
from learning_signal.marl.settings import Frozen, RunSettings
from learning_signal.marl.shaping import ShapingConfig
from learning_signal.tools.base import CannotGoOn
from learning_signal.tools.plan.evaluation import evaluated_for
from learning_signal.tools.plan.settings import SessionSettings
from learning_signal.tools.trainer import final_evaluation


class CellStopped(Exception):
    """The study was asked to pause; the same command resumes it here."""


class Point(Frozen):
    """The result of a cell's head after so much training."""

    env_steps: int
    """Everything the cell had trained by then, branches included."""
    sparse_return: float
    """Mean over the report episodes, which nothing selects by."""
    progress: float | None


class CellResult(Frozen):
    """The result of a cell. A failed or stopped cell has no final value."""

    arm: str
    task: str
    seed: int
    outcome: Literal["done", "failed", "stopped"]
    reason: str | None = None
    """Why it is not done: one sentence."""
    env_steps: int
    """All that were trained."""
    evaluation_env_steps: int | None = None
    """Those that evaluations played beside them, as far as known; None where none are."""
    final: float | None = None
    """Mean sparse return of the last head over the report episodes."""
    final_progress: float | None = None
    curve: tuple[Point, ...] = ()
    shaping_text: str | None = None
    """The shaping in force at the end."""
    promotions: int | None = None
    """None for an arm that is not a session."""
    rollbacks: int | None = None
    session: str | None = None
    compute_seconds: float = 0.0
    """Of one worker, reused segments included."""


class CellExecutor:
    """One cell's view of a shared executor: it has its own futures, so cancelling them cancels no other cell's work."""

    def __init__(self, executor: Executor, advance: Callable[[int], None]) -> None:
        """``advance`` is called with the env steps of each finished segment, in a thread of the executor."""
        self.worker_count = executor.worker_count
        self._executor, self._advance = executor, advance

    def submit(self, spec: SegmentSpec, urgent: bool = True) -> Future[SegmentResult]:
        """As the executor's, with a future that is this cell's alone."""
        own: Future[SegmentResult] = Future()

        def settle(done: Future[SegmentResult]) -> None:
            if done.cancelled():
                own.cancel()
                return
            error = done.exception()
            if error is None:
                self._advance(spec.env_steps)
            if own.set_running_or_notify_cancel():
                own.set_result(done.result()) if error is None else own.set_exception(error)

        self._executor.submit(spec, urgent).add_done_callback(settle)
        return own

    def withdraw(self, segment: str) -> bool:
        """False: another cell may want the segment."""
        return False

    def cancel_all(self) -> None:
        """No-op: the study decides that for all cells."""

    def close(self) -> None:
        """No-op: the study closes the executor that its cells share."""

    def __enter__(self) -> CellExecutor:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class CellTrainer:
    """The training of one cell within its budget, and the curve of its head over everything trained."""

    def __init__(
        self, shared: CellExecutor, settings: SessionSettings, budget: int, stopping: Callable[[], bool]
    ) -> None:
        self.settings, self.budget, self.spent = settings, budget, 0
        self.curve: list[Point] = []
        self.evaluation_env_steps: int | None = None
        self.compute_seconds = 0.0
        self.shaping = ShapingConfig.none()
        """Of the head."""
        self._shared, self._stopping, self._size = shared, stopping, rollout_size(settings.run)

    @property
    def run(self) -> RunSettings:
        """Task, learner and evaluation of every segment."""
        return self.settings.run

    @property
    def left(self) -> int:
        """Env steps that may still be trained, in whole rollouts."""
        return self.whole(self.budget - self.spent)

    def whole(self, env_steps: float) -> int:
        """``env_steps`` rounded down to whole rollouts."""
        return max(int(env_steps) // self._size * self._size, 0)

    def spec(
        self,
        parent: str | None,
        shaping: ShapingConfig,
        env_steps: int,
        seed: int,
        purpose: Literal["main", "search"] = "main",
    ) -> SegmentSpec:
        """A segment of this cell: one that the head moves along, as in a session, or one of a search."""
        run = evaluated_for(self.run, purpose, seed)
        return SegmentSpec(run=run, parent=parent, shaping=shaping, env_steps=env_steps, seed=seed)

    async def train(self, specs: Sequence[SegmentSpec]) -> list[SegmentResult | SegmentFailed]:
        """Train segments side by side; a failed one is returned as its failure, and what it trained is counted.

        Raises ``CellStopped`` where the study pauses, ``CannotGoOn`` where the machine is at fault.
        """
        if self._stopping():
            raise CellStopped("It was paused; the same command resumes it.")
        futures = [asyncio.wrap_future(self._shared.submit(spec)) for spec in specs]
        ended = await asyncio.gather(*futures, return_exceptions=True)
        results: list[SegmentResult | SegmentFailed] = []
        for outcome in ended:
            if isinstance(outcome, asyncio.CancelledError):
                raise CellStopped("Its training was cancelled; the same command resumes it.")
            if isinstance(outcome, SegmentImpossible):
                raise CannotGoOn(str(outcome))
            if isinstance(outcome, BaseException) and not isinstance(outcome, SegmentFailed):
                raise outcome
            results.append(outcome)
        self.spent += sum(each.env_steps for each in results)
        played = (each.evaluation_steps for each in results if isinstance(each, SegmentResult))
        self.evaluation_env_steps = known_sum((self.evaluation_env_steps, *played))
        self.compute_seconds += sum(each.wall_seconds for each in results if isinstance(each, SegmentResult))
        return results

    async def follow(self, spec: SegmentSpec) -> SegmentResult:
        """Train one segment that the head moves along; ``SegmentFailed`` where it fails."""
        before = self.spent
        (result,) = await self.train([spec])
        if isinstance(result, SegmentFailed):
            raise result
        self.shaping = spec.shaping
        self.curve += [
            Point(
                env_steps=before + each.env_steps - result.start_env_steps,
                sparse_return=each.sparse_return,
                progress=each.mean_progress,
            )
            for each in result.evaluations_of("report")
        ]
        return result

    def jump(self, result: SegmentResult, shaping: ShapingConfig) -> None:
        """The head is now the end of a segment that was chosen after it was trained."""
        last = final_evaluation(result, "report")
        self.shaping = shaping
        self.curve.append(Point(env_steps=self.spent, sparse_return=last.sparse_return, progress=last.mean_progress))

    def ranked(self, results: Sequence[SegmentResult | SegmentFailed], max_return: float) -> list[int]:
        """Positions from best to worst on the screen episodes; what failed is left out.

        Sparse return decides, or progress where every sparse return is below the competence floor.
        """
        returns: dict[int, float] = {}
        progress: dict[int, float] = {}
        for index, each in enumerate(results):
            measure = later_half_mean(each.evaluations_of("screen")) if isinstance(each, SegmentResult) else None
            if measure is not None and measure.sparse_return is not None:
                returns[index] = measure.sparse_return
                if measure.progress is not None:
                    progress[index] = measure.progress
        below = all(value < self.settings.gate.floor * max_return for value in returns.values())
        value = progress if below and progress.keys() == returns.keys() else returns
        return sorted(returns, key=lambda index: -value[index])


def trained(result: SegmentResult | SegmentFailed) -> SegmentResult:
    """A segment that ``ranked`` listed; raises the failure of another."""
    if isinstance(result, SegmentFailed):
        raise result
    return result


def all_failed(results: Sequence[SegmentResult | SegmentFailed]) -> SegmentFailed:
    """The failure of a cell none of whose segments could be trained."""
    reason = next((str(each) for each in results if isinstance(each, SegmentFailed)), "none could be measured")
    return SegmentFailed(f"All {len(results)} segments of a generation failed; the first: {reason.removesuffix('.')}.")
