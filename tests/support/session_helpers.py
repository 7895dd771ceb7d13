"""What the tests of whole sessions share: tiny settings, a recording observer, and a session's story."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from learning_signal.agents.session.outcome import SessionOutcome
from learning_signal.agents.session.session import resume_session, run_session
from learning_signal.ledger.read.reader import Reader
from learning_signal.marl.executors.base import Executor
from learning_signal.marl.executors.local import WorkerPool
from learning_signal.marl.settings import EvaluationSettings, LearnerSettings, RunSettings
from learning_signal.tools.context import HumanAnswer
from learning_signal.tools.plan.settings import DeliberationSettings, SessionSettings
from learning_signal.tools.recall import recalled
from learning_signal.tools.roles import ROLES
from learning_signal.tools.state import SessionState
from tests.support.synthetic_training import STAGE_STEPS, InlinePool

RUN = RunSettings(
    learner=LearnerSettings(hidden=(8,), environments=8, epochs=1, minibatches=1),
    evaluation=EvaluationSettings(episodes=8, points=2),
)


def tiny_settings(folder: Path, **changes: Any) -> SessionSettings:
    """One round of the smallest session that goes through every phase, kept under ``folder``."""
    given: dict[str, Any] = {
        "run": RUN,
        "agents": dict.fromkeys(ROLES, "rules"),
        "agent_sources": dict.fromkeys(ROLES, "default"),
        "deliberation": DeliberationSettings(candidates=2, refinements=0),
        "rounds": 1,
        "stage_steps": STAGE_STEPS,
        "branch_steps": 400,
        "workers": 1,
        "store": folder / "segments",
        "ledger": folder / "ledger.db",
    }
    return SessionSettings(**given | changes)


def synthetic_workers(store_root, workers=None, on_progress=None, settings=None, tasks=()) -> WorkerPool:
    """Real worker processes with synthetic training."""
    return WorkerPool(store_root, workers, on_progress, runner="tests.support.synthetic_training:train", preload=())


class Recorder:
    """An observer that keeps what it is told; ``on_event`` may act on an event as a user would."""

    def __init__(self, on_event=None, answer: HumanAnswer | None = None, on_question=None) -> None:
        self.events: list[dict[str, Any]] = []
        self.stages: list[dict[str, Any]] = []
        self.progressed: list[tuple] = []
        self.questions: list[Any] = []
        self._on_event, self._answer, self._on_question = on_event, answer, on_question

    def event(self, row: dict[str, Any]) -> None:
        self.events.append(row)
        if self._on_event is not None:
            self._on_event(row)

    def progress(self, *report: Any) -> None:
        self.progressed.append(report)

    def stage(self, info: dict[str, Any]) -> None:
        self.stages.append(info)

    def ask_human(self, question: Any) -> HumanAnswer:
        self.questions.append(question)
        if self._on_question is not None:
            self._on_question()
        if self._answer is None:
            raise AssertionError("nobody was to be asked")
        return self._answer

    def take_turn(self, turn: Any) -> dict[str, str]:
        return {"absent": "this is a test"}


Pool = Callable[[Path], AbstractContextManager[Executor]]
"""Opens an executor over a store. None, where one is expected: the session opens its own."""


def run(
    settings: SessionSettings, observer: Recorder | None = None, control=None, pool: Pool | None = None
) -> SessionOutcome:
    """A new session to its end."""

    async def main() -> SessionOutcome:
        with _opened(pool, settings) as executor:
            return await run_session(settings, observer=observer or Recorder(), control=control, executor=executor)

    return asyncio.run(main())


def resume(
    settings: SessionSettings,
    session: str = "latest",
    observer: Recorder | None = None,
    control=None,
    pool: Pool | None = None,
    **options: Any,
) -> SessionOutcome:
    """The session goes on to its end."""

    async def main() -> SessionOutcome:
        with _opened(pool, settings) as executor:
            return await resume_session(
                settings.ledger, session, observer=observer or Recorder(), control=control, executor=executor, **options
            )

    return asyncio.run(main())


run_inline = partial(run, pool=InlinePool)
resume_inline = partial(resume, pool=InlinePool)
"""Without torch and without worker processes."""


def _opened(pool: Pool | None, settings: SessionSettings) -> AbstractContextManager[Executor | None]:
    return nullcontext() if pool is None else pool(settings.store)


COUNTED = (
    "main_run",
    "metrics",
    "evaluations",
    "segments",
    "diagnoses",
    "proposals",
    "candidates",
    "branches",
    "branch_segments",
    "comparisons",
    "verdicts",
    "decisions",
    "messages",
)
"""Tables of which a resumed session must have exactly as many rows as an uninterrupted one."""
HAPPENED = ("llm_calls", "tool_calls")
"""The same for their rows with status ok; interrupted attempts may come on top."""


def story(ledger: Path, session: str = "latest") -> dict[str, Any]:
    """What must be the same in two sessions that differ only in when they ran and were cut short."""
    with Reader.open(ledger) as reader:
        identity = reader.session_id(session)

        def every(table: str, columns: str, order: str = "event_seq") -> list[dict[str, Any]]:
            rows = reader.rows(f"SELECT {columns} FROM {table} WHERE session_id = ? ORDER BY {order}", (identity,))
            return json.loads(json.dumps(rows).replace(identity, "SESSION"))

        counts = {table: len(every(table, "1", "1")) for table in COUNTED}
        counts |= {
            table: len(reader.rows(f"SELECT 1 FROM {table} WHERE session_id = ? AND status = 'ok'", (identity,)))
            for table in HAPPENED
        }
        costs = reader.costs(identity)
        return {
            "decisions": every(
                "decisions",
                "number, round, action, candidate_id, segment_from, segment_to, shaping_to, decided_by, reason",
            ),
            "candidates": every("candidates", "id, name, shaping, rationale", "id"),
            "verdicts": every("verdicts", "id, candidate_id, comparison_id, outcome, rule, reason, reading"),
            "comparisons": every("comparisons", "id, purpose, inputs, result"),
            "messages": every("messages", "source, target, type, body", "id"),
            "main_run": every("main_run", "segment_id, round, reason", "id"),
            "segments": every("segments", "id, parent, shaping, seed, env_steps, status, reason, reused", "id"),
            "env_steps": (costs.env_steps_main, costs.env_steps_branches, costs.env_steps_twin),
            "counts": counts,
            "head": state_of(reader, identity).head,
            "tried": state_of(reader, identity).tried,
        }


def state_of(reader: Reader, session: str = "latest") -> SessionState:
    """The state with which a resume of the session would go on."""
    identity = reader.session_id(session)
    gate = SessionSettings.model_validate(reader.config(identity)).gate
    return recalled(reader, identity, SessionState.model_validate(reader.cursor(identity)), gate)
