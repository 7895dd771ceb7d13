"""Runs a study: all cells over one executor, several at a time; sessions are resumed, segments looked up."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any, Literal, Protocol

from loguru import logger

from learning_signal.agents.session.observer import NOBODY_HERE, SessionControl, in_thread
from learning_signal.agents.session.session import resume_session, run_session, to_resume
from learning_signal.ledger.file.lost import LedgerLost
from learning_signal.ledger.read.reader import Reader
from learning_signal.ledger.wording import shaping_text
from learning_signal.marl.errors import SegmentFailed
from learning_signal.marl.executors.base import Executor
from learning_signal.marl.executors.choice import open_executor
from learning_signal.marl.gate.judges import SEQUENTIAL
from learning_signal.marl.segments.segment import round_up
from learning_signal.tools.base import CannotGoOn
from learning_signal.tools.plan.settings import SessionSettings
from learning_signal.tools.state import SessionState
from learning_signal.tools.study.arms import SEARCHES, to_the_end
from learning_signal.tools.study.cell import CellExecutor, CellResult, CellStopped, CellTrainer
from learning_signal.tools.study.results import report, session_so_far, trained_by
from learning_signal.tools.study.study import (
    JUDGES,
    SESSION_ARMS,
    Cell,
    Record,
    StudyError,
    StudySettings,
    alone_in,
    cost_of,
    session_settings,
    write_whole,
)


class Observer(Protocol):
    """Who watches a study."""

    def cell(self, cell: Cell, result: CellResult | None) -> None:
        """A cell begins (None) or has ended."""

    def progress(self, done: int) -> None:
        """Env steps of all cells that are done. Called from any thread."""


async def run_study(
    study: StudySettings, *, observer: Observer, control: SessionControl, command: str = ""
) -> dict[str, Any]:
    """Run what is missing of a study and return its report, which is also written to ``study.json`` in its folder.

    If the report has stopped cells, the same command resumes the study. Raises ``StudyError`` where the folder holds
    another study or another process runs it, and the executor's error where it cannot be opened.
    """
    with alone_in(study.folder):
        record = Record(study)
        arms = {cell: session_settings(study, cell) for cell in study.cells if cell.arm in SESSION_ARMS}
        for cell, settings in arms.items():
            _refuse_others(record.session(cell), settings)
        record.save()
        results = await _Study(study, record, arms, observer, control).run()
        study_report = report(study, results, command)
        write_whole(study.folder / "study.json", json.dumps(study_report, allow_nan=False))
        return study_report


def _refuse_others(known: dict[str, Any] | None, settings: SessionSettings) -> None:
    """``StudyError`` where the session of a cell, as its ledger has it, is not the one that this command would run."""
    if known is None:
        return
    with Reader.open(settings.ledger) as reader:
        stored = to_resume(reader, reader.session(known["session"]).id, {}, {})
    before, now = (one.model_dump(exclude=_SAME_IN_ALL) for one in (stored, settings))
    other = [name for name in now if before[name] != now[name]]
    if other:
        raise StudyError(
            f"Session {known['session']} of this study was begun with another {other[0]}, or changed since, expected "
            "that of this command: give another folder with --to."
        )


_SAME_IN_ALL = {"ledger", "store", "workers", "executor", "agent_sources"}
"""Settings that change no result, so that a study may resume elsewhere with others."""


class _Study:
    """The cells at work."""

    def __init__(
        self,
        study: StudySettings,
        record: Record,
        arms: dict[Cell, SessionSettings],
        observer: Observer,
        control: SessionControl,
    ) -> None:
        self.study, self.record, self.arms, self.observer, self.control = study, record, arms, observer, control
        self.sessions: set[SessionControl] = set()
        """The controls of the running sessions."""
        self.done: dict[Cell, int] = {}

    async def run(self) -> list[CellResult]:
        """The result of every cell, in order."""
        first = self.study.tasks[0]
        names = tuple(settings.run.task for settings in self.study.tasks)

        def own() -> Executor:
            return open_executor(first.store.resolve(), first.workers, None, first.executor, tasks=names)

        with ExitStack() as stack:
            # A cluster may take a minute to answer, and Ctrl-C must work meanwhile.
            executor = stack.enter_context(await in_thread(own) if first.executor.kind == "ray" else own())
            self.control.bind(lambda: self._abort(executor))
            # One more than there are workers, so that none waits while a cell thinks.
            places = asyncio.Semaphore(executor.worker_count + 1)
            return await asyncio.gather(*(self._cell(cell, executor, places) for cell in self.study.cells))

    def _abort(self, executor: Executor) -> None:
        self.control.pausing = True
        for session in list(self.sessions):
            session.abort()
        executor.cancel_all()

    async def _cell(self, cell: Cell, executor: Executor, places: asyncio.Semaphore) -> CellResult:
        async with places:
            self.done[cell] = 0
            self.observer.cell(cell, None)
            shared = CellExecutor(executor, lambda steps: self._advance(cell, steps))
            try:
                result = await self._work(cell, shared)
            except (CellStopped, CannotGoOn) as stopped:
                result = self._ended_early(cell, "stopped", str(stopped))
            except LedgerLost:  # all cells write it
                raise
            except Exception as error:  # noqa: BLE001 - one cell must not end a study of many hours
                logger.opt(exception=error).debug("a cell failed")
                result = self._ended_early(cell, "failed", str(error) or type(error).__name__)
            self._reached(cell, result.env_steps)
            self.observer.cell(cell, result)
            return result

    def _ended_early(self, cell: Cell, outcome: Literal["stopped", "failed"], reason: str) -> CellResult:
        return CellResult(
            arm=cell.arm,
            task=cell.task,
            seed=cell.seed,
            outcome=outcome,
            reason=reason,
            env_steps=self.done[cell],
            session=(self.record.session(cell) or {}).get("session"),
        )

    async def _work(self, cell: Cell, shared: CellExecutor) -> CellResult:
        """Train a cell to the end of its budget."""
        budget, extra = self.study.budget(cell), {}
        settings = self.arms[cell] if cell in self.arms else self.study.base(cell)
        trainer = CellTrainer(shared, settings, budget, lambda: self.control.pausing)
        if cell.arm in SESSION_ARMS:
            session = await self._session(cell, settings, shared)
            so_far = session_so_far(settings.ledger, session)
            if so_far.env_steps > budget:
                raise StudyError(
                    f"Session {session} has trained {so_far.env_steps:,} env steps, expected at most {budget:,}: it "
                    "was resumed outside the study; give another folder with --to."
                )
            trainer.spent, trainer.curve = so_far.env_steps, list(so_far.curve)
            trainer.evaluation_env_steps = so_far.evaluation_env_steps
            trainer.compute_seconds, trainer.shaping = so_far.compute_seconds, so_far.head.shaping
            self._reached(cell, so_far.env_steps)
            extra = {"session": session, "promotions": so_far.promotions, "rollbacks": so_far.rollbacks}
            await to_the_end(trainer, so_far.head.segment, so_far.head.shaping)
        else:
            await SEARCHES[cell.arm](trainer)
        last = trainer.curve[-1]
        return CellResult(
            arm=cell.arm,
            task=cell.task,
            seed=cell.seed,
            outcome="done",
            env_steps=trainer.spent,
            evaluation_env_steps=trainer.evaluation_env_steps,
            final=last.sparse_return,
            final_progress=last.progress,
            curve=tuple(trainer.curve),
            shaping_text=shaping_text(trainer.shaping.canonical()),
            compute_seconds=trainer.compute_seconds,
            **extra,
        )

    async def _session(self, cell: Cell, settings: SessionSettings, shared: CellExecutor) -> str:
        """Run or resume the session of a cell until it is over; returns its id."""
        entry = self.record.session(cell)
        if entry is not None and entry["over"] is not None:
            return entry["session"]
        if self.control.pausing:
            raise CellStopped("It was paused; the same command resumes it.")
        control = BudgetControl(self.study.budget(cell), settings, lambda: self.control.pausing)
        watcher = _SessionObserver(control, lambda session: self.record.note(cell, session, None))
        self.sessions.add(control)
        judge = JUDGES.get(cell.arm, SEQUENTIAL)
        try:
            if entry is None:
                outcome = await run_session(settings, observer=watcher, control=control, executor=shared, judge=judge)
            else:
                control.session = entry["session"]
                outcome = await resume_session(
                    settings.ledger,
                    entry["session"],
                    observer=watcher,
                    control=control,
                    executor=shared,
                    judge=judge,
                    settings=settings,
                )
        finally:
            self.sessions.discard(control)
        if outcome.status == "failed":
            raise SegmentFailed(outcome.stop_reason or "The session failed.")
        if outcome.status != "done" and control.over is None:
            raise CellStopped(f"Session {outcome.session_id} is {outcome.status}: {outcome.stop_reason}")
        self.record.note(cell, outcome.session_id, control.over or "its rounds are used up")
        return outcome.session_id

    def _advance(self, cell: Cell, env_steps: int) -> None:
        self.done[cell] += env_steps
        self.observer.progress(sum(self.done.values()))

    def _reached(self, cell: Cell, env_steps: int) -> None:
        """What had been trained before this command counts as well."""
        self.done[cell] = max(self.done[cell], env_steps)
        self.observer.progress(sum(self.done.values()))


class BudgetControl(SessionControl):
    """Pauses a session before the first thing that does not fit its budget: a stage, a round or a refinement.

    Every env step counts, also those that another cell had computed already: sharing gives no advantage. It also pauses
    with the study's own pause; ``over`` says whether it was the budget.
    """

    def __init__(self, budget: int, settings: SessionSettings, stopping: Callable[[], bool]) -> None:
        self.session: str | None = None
        self.over: str | None = None
        self._budget, self._settings, self._stopping = budget, settings, stopping
        self._cost = cost_of(settings)
        super().__init__()

    @property
    def pausing(self) -> bool:
        """Asked by the session before every step."""
        if self.over is None and self.session is not None:
            self.over = self._short_of(self.session)
        return self._stopping() or self.over is not None

    @pausing.setter
    def pausing(self, asked: bool) -> None:
        """No-op: only the study pauses its sessions."""

    def _short_of(self, session: str) -> str | None:
        """The next work and why it does not fit, in words; None where it fits or is paid for already."""
        with Reader.open(self._settings.ledger) as reader:
            state = SessionState.model_validate(reader.cursor(session))
            left = self._budget - trained_by(reader, session)
        if state.phase == "stage":
            needed, what = round_up(self._settings.run, self._settings.stage_steps), "a stage"
        elif state.step > 0 or state.phase not in ("critic", "generator"):
            return None
        elif state.refinement > 0:
            needed, what = self._cost.refinement, "a refinement"
        elif state.phase == "generator" and self._settings.deliberation.critic:
            return None
        else:
            needed, what = self._cost.first, "a round"
        return f"{what} needs {needed:,} env steps and {left:,} are left" if needed > left else None


class _SessionObserver:
    """The observer of one session: it learns the session's id, and writes it down at once."""

    def __init__(self, control: BudgetControl, note: Callable[[str], None]) -> None:
        self._control, self._note = control, note

    def event(self, row: dict[str, Any]) -> None:
        """The first event tells which session it is."""
        if self._control.session is None:
            self._control.session = row["session_id"]
            self._note(row["session_id"])

    def progress(self, *position: Any) -> None:
        """No-op: segments are counted when they end."""

    def stage(self, info: dict[str, Any]) -> None:
        """No-op: a single session is shown in its log."""

    def ask_human(self, question: Any) -> Any:
        """Never called: a study needs no approval."""
        raise RuntimeError("a study needs no approval")

    def take_turn(self, turn: Any) -> Mapping[str, str]:
        """Nobody types here."""
        return NOBODY_HERE
