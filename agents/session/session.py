"""A supervised session from its first segment to its report: stages and rounds in turn, resumable at every step."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, nullcontext, suppress
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

from loguru import logger
from pydantic import BaseModel, ValidationError

from learning_signal.agents.deliberation import Deliberation
from learning_signal.agents.model.call import CallContext
from learning_signal.agents.model.faults import BackendError
from learning_signal.agents.model.prices import refuse_unpriced
from learning_signal.agents.roles import build_cast, secrets_of
from learning_signal.agents.session.consent import uses_of_session
from learning_signal.agents.session.observer import Observer, SessionControl, Watched, in_thread
from learning_signal.agents.session.outcome import SessionOutcome, outcome_of, write_products
from learning_signal.agents.session.stages import conclude_stage
from learning_signal.agents.tokens import count_tokens
from learning_signal.ledger.errors import LedgerError, SessionTaken
from learning_signal.ledger.read.reader import Reader
from learning_signal.ledger.write.writer import Ledger
from learning_signal.marl.errors import SegmentFailed
from learning_signal.marl.executors.base import Executor
from learning_signal.marl.executors.choice import open_executor, refuse_unreachable
from learning_signal.marl.paths import inside
from learning_signal.marl.randomness import derive
from learning_signal.marl.segments.segment import SegmentResult, SegmentSpec, SegmentStore, TrainingStatus
from learning_signal.marl.segments.version import code_version
from learning_signal.marl.shaping import ShapingConfig
from learning_signal.marl.tasks import make_task
from learning_signal.tools.base import CannotGoOn
from learning_signal.tools.consent import NOTHING_SAID, Consent, admit
from learning_signal.tools.context import SessionContext
from learning_signal.tools.plan.budget import Budget, Price, refuse_spent
from learning_signal.tools.plan.settings import SessionSettings
from learning_signal.tools.plan.suitability import refuse_unsuitable, refuse_untested, remarks
from learning_signal.tools.round.briefs import head_card
from learning_signal.tools.round.speculation import finish
from learning_signal.tools.round.spending import afford_segments, spent_of
from learning_signal.tools.state import Head, SessionState
from learning_signal.tools.trainer import Trainer

HEARTBEAT_SECONDS = 5.0

Record = TypeVar("Record", bound=BaseModel)


class SessionError(ValueError):
    """A session cannot start or go on; the message is one sentence."""


async def run_session(
    settings: SessionSettings,
    *,
    observer: Observer,
    control: SessionControl | None = None,
    executor: Executor | None = None,
    ungated: bool = False,
) -> SessionOutcome:
    """Run a new session to its end (or to a pause), on workers of its own or on an ``executor`` that stays open.

    ``ungated`` lets a study run a gate that tests nothing (``gate.mode`` other than ``paired``).

    Raises ``SessionError``, ``LedgerError``, ``SpecError`` or the task's own error, one sentence each.
    """
    # A wrong task, or one that the learner cannot learn, is refused before anything is written.
    task = make_task(settings.run.task, 1).spec
    settings.run.learner.refuse(task)
    refuse_unsuitable(settings, task, ungated=ungated)
    refuse_unpriced(settings, settings.budget)
    if executor is None:
        refuse_unreachable(settings.executor)
    settings = settings.model_copy(update={"store": settings.store.resolve()})  # a resume may start in another folder
    with Ledger.open(settings.ledger, secrets_of(settings)) as ledger:
        with ledger.transaction("session-start"):
            identity = ledger.begin_session(
                task=settings.run.task,
                algorithm=settings.run.learner.algorithm,
                seed=settings.seed,
                config=settings.model_dump(mode="json"),
                code_version=code_version(),
            )
            ledger.event(identity, "session", f"session {identity} on {settings.run.task} begins")
            ledger.save_cursor(identity, SessionState(budget=settings.budget).model_dump(mode="json"))
        session = _Session(settings, ledger, identity, observer, control or SessionControl(), executor)
        session.say(remarks(settings, task))
        return await session.run()


async def resume_session(
    path: Path,
    session: str,
    *,
    observer: Observer,
    control: SessionControl | None = None,
    agents: Mapping[str, str] | None = None,
    changes: Mapping[str, Any] | None = None,
    budget: Mapping[str, Any] | None = None,
    prices: Mapping[str, Price] | None = None,
    executor: Executor | None = None,
    ungated: bool = False,
    consent: Consent = NOTHING_SAID,
    settings: SessionSettings | None = None,
) -> SessionOutcome:
    """Go on with a paused, interrupted, failed or killed session. ``agents`` replaces backend specs by role, ``budget``
    limits and ``prices`` prices by name, for this resume and the next. ``ungated`` is for a study, as in
    ``run_session``, and so are ``settings``: what runs then comes from there and nothing from the ledger's own.

    Raises ``NotTrusted`` where the session is not this user's and ``consent`` does not cover it, ``SessionError``,
    ``Unsuitable``, ``SpecError``, ``LedgerError`` or, for a limit below what is spent already, ``BudgetError``, with
    one sentence.
    """
    with Reader.open(path) as reader:
        row = reader.session(session)
        if settings is None:
            settings = to_resume(reader, row.id, agents or {}, changes or {})
            admit(reader, row.id, uses_of_session(reader, row.id, settings, consent), consent)
        else:
            settings = settings.model_copy(update={"ledger": path, "store": settings.store.resolve()})
        refuse_untested(settings.gate.mode, ungated=ungated)
        refuse_spent(budget or {}, spent_of(reader.costs(row.id)))
    if executor is None:
        refuse_unreachable(settings.executor)
    with Ledger.open(path, secrets_of(settings)) as ledger:
        with ledger.transaction("session-resume"):
            ledger.resume_session(row.id, code_version())
            state = _stored(SessionState, ledger.load_cursor(row.id), row.id)
            state.budget = Budget(**state.budget.model_dump() | dict(budget or {}))
            state.prices |= prices or {}
            settings = settings.model_copy(update={"prices": settings.prices | state.prices})
            refuse_unpriced(settings, state.budget)
            changed = f" with a budget of {state.budget.describe()}" if budget else ""
            ledger.event(row.id, "session", f"session {row.id} goes on{changed}")
            ledger.save_cursor(row.id, state.model_dump(mode="json"))
        return await _Session(settings, ledger, row.id, observer, control or SessionControl(), executor).run()


def to_resume(reader: Reader, session: str, agents: Mapping[str, str], changes: Mapping[str, Any]) -> SessionSettings:
    """The settings a stored session goes on with: its own, but for backends in ``agents`` and fields in ``changes``."""
    settings = _stored(SessionSettings, reader.config(session), session)
    # Who spoke last in each role: an earlier resume may have changed it. Rows are in order of time.
    spoken = {agent.role: agent for agent in reader.agents(session)}
    specs = settings.agents | {role: agent.spec for role, agent in spoken.items()} | dict(agents)
    sources = settings.agent_sources | {role: agent.source for role, agent in spoken.items()}
    sources |= dict.fromkeys(agents, "command line (resume)")
    return settings.model_copy(update={"ledger": reader.path, "agents": specs, "agent_sources": sources, **changes})


class _Session:
    """One running session: the loop over stages, rounds and the report."""

    def __init__(
        self,
        settings: SessionSettings,
        ledger: Ledger,
        identity: str,
        observer: Observer,
        control: SessionControl,
        executor: Executor | None,
    ) -> None:
        self.settings, self.ledger, self.identity = settings, ledger, identity
        self.observer, self.control, self.executor = Watched(observer), control, executor
        self.state = _stored(SessionState, ledger.load_cursor(identity), identity)
        self._loop_task: asyncio.Task | None = None
        self._taken: SessionTaken | None = None
        self.ledger.on_commit = self._committed

    def say(self, remarks: list[str]) -> None:
        """Tell whoever watches, and the ledger, what limits this session."""
        if remarks:
            with self.ledger.transaction("remarks"):
                for remark in remarks:
                    self.ledger.event(self.identity, "session", remark)

    async def run(self) -> SessionOutcome:
        """Run until the end, a pause, an abort, or an error that a resume may overcome."""
        status, reason = "failed", "The program failed; this is a bug: see the traceback."
        try:
            async with self._opened() as (context, deliberation):
                self._loop_task = asyncio.ensure_future(self._loop(context, deliberation))
                self.control.bind(lambda: self._loop_task.cancel())
                try:
                    finished = await self._loop_task
                    status, reason = ("done", None) if finished else ("paused", "Paused on request.")
                except asyncio.CancelledError:
                    status, reason = "interrupted", "Stopped in the middle of a step."
                    if self._taken is not None:
                        raise self._taken from None
                    if not self.control.aborted:
                        raise
                except BackendError as error:
                    status, reason = "paused", str(error)
                except CannotGoOn as error:
                    status, reason = "paused", str(error)
                except SessionError as error:
                    status, reason = "failed", str(error)
        except BaseException as error:
            with suppress(LedgerError):  # a full disk must not hide its own message
                self._end(status, str(error) or reason)
            raise
        self._end(status, reason)
        return outcome_of(self.settings, self.ledger.path, self.identity, self.state)

    def _end(self, status: str, reason: str | None) -> None:
        with self.ledger.transaction("session-end"):
            if status != "done":
                self.ledger.interrupt_pending(self.identity)
            verb = "has" if status == "failed" else "is"
            title = f"session {self.identity} {verb} {status}" + (f": {reason}" if reason else "")
            outcome = {"failed": "error", "interrupted": "interrupted"}.get(status, "ok")
            self.ledger.event(self.identity, "session", title, status=outcome)
            self.ledger.end_session(self.identity, status, reason)

    @asynccontextmanager
    async def _opened(self) -> AsyncIterator[tuple[SessionContext, Deliberation]]:
        """Workers, cast and heartbeat for as long as the session runs."""
        loop, settings = asyncio.get_running_loop(), self.settings

        def own() -> Executor:
            return open_executor(
                settings.store,
                settings.workers,
                lambda progress: loop.call_soon_threadsafe(self._progressed, progress),
                settings.executor,
                tasks=(settings.run.task,),
            )

        if self.executor is not None:
            opened = nullcontext(self.executor)
        elif settings.executor.kind == "ray":
            opened = await in_thread(own)  # a cluster may take a minute to answer, and Ctrl-C is to be heard
        else:
            opened = own()
        with opened as pool:
            loop.run_in_executor(None, import_module, "scipy.stats")  # while the workers start; comparisons need it
            self.trainer = Trainer(pool, SegmentStore(settings.store), self.ledger, self.identity, settings.run)
            context = SessionContext(
                session=self.identity,
                settings=settings,
                task=make_task(settings.run.task, 1).spec,
                state=self.state,
                trainer=self.trainer,
                ledger=self.ledger,
                count_tokens=count_tokens,
                ask_agent=_nobody,
                ask_human=lambda question: in_thread(lambda: self.observer.ask_human(question)),
            )
            call_context = CallContext()
            cast = build_cast(context, call_context)
            deliberation = Deliberation(context, cast, call_context)
            heart = asyncio.ensure_future(self._beat())
            try:
                yield context, deliberation
            finally:
                heart.cancel()
                self.trainer.stop()
                if self.control.aborted:
                    pool.cancel_all()
                for speaker in cast.values():
                    await speaker.client.close()

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_SECONDS)
            try:
                self.ledger.heartbeat(self.identity)
            except SessionTaken as taken:  # the next commit would say it too, but that may be a long branch away
                self._taken = taken
                self._loop_task.cancel()
                return
            except LedgerError as error:  # one missed beat is no reason to stop beating
                logger.warning("the session could not say that it is alive: {}", error)

    async def _loop(self, context: SessionContext, deliberation: Deliberation) -> bool:
        """Step by step until the session is done (True) or a pause was asked for (False)."""
        self._show(context)
        while self.state.phase != "done":
            if self.control.pausing:
                return False
            if self.state.phase == "stage":
                await self._stage(context, deliberation)
            elif self.state.phase == "report":
                await self._report(context)
            else:
                await deliberation.step()
            self._show(context)
        return True

    async def _stage(self, context: SessionContext, deliberation: Deliberation) -> None:
        """Train the main run for one stage and decide what follows."""
        state = self.state
        head = state.head
        shaping = head.shaping if head else ShapingConfig.none()
        spec = self.trainer.spec(
            head.segment if head else None,
            shaping,
            context.stage_steps,
            derive(self.settings.seed, "stage", state.stages),
        )
        afford_segments(context, "the next stage", [spec])
        conclude_stage(context, deliberation, await self._main_segment(spec))

    async def _main_segment(self, spec: SegmentSpec, purpose: str = "main") -> SegmentResult:
        self.trainer.launch(spec, purpose, purpose)
        try:
            return await self.trainer.result(spec.id)
        except SegmentFailed as failure:
            self.state.lost[purpose] = self.state.lost.get(purpose, 0) + failure.env_steps
            self.ledger.save_cursor(self.identity, self.state.model_dump(mode="json"))
            raise SessionError(f"The {purpose} run stopped: {failure}") from failure

    async def _report(self, context: SessionContext) -> None:
        """Train the twin where asked for, write the products, and be done."""
        if self.state.spent is None:  # until the twin begins, whatever is pending is of a round
            await finish(context)
        if self.settings.twin and not await self._twin(context):
            return
        folder = inside(self.settings.ledger.parent, self.identity)
        write_products(folder, self.trainer.store, self.state.head)
        with self.ledger.transaction("report"):
            self.state.phase = "done"
            context.event("session", f"final policy and shaping are in {folder}")
            self.ledger.save_cursor(self.identity, self.state.model_dump(mode="json"))

    async def _twin(self, context: SessionContext) -> bool:
        """The sparse twin: the same learner without shaping for all env steps this session spent, branches included.

        False where a pause was asked for before it was trained.
        """
        if self.state.spent is None:
            with Reader.open(self.ledger.path) as reader:
                costs = reader.costs(self.identity)
            self.state.spent = costs.env_steps_main + costs.env_steps_branches + costs.env_steps_reused
            self.ledger.save_cursor(self.identity, self.state.model_dump(mode="json"))
        parent, trained = None, 0
        while trained < self.state.spent:
            if self.control.pausing:
                return False
            steps = min(context.stage_steps, self.state.spent - trained)
            spec = self.trainer.spec(parent, ShapingConfig.none(), steps, derive(self.settings.seed, "twin", trained))
            afford_segments(context, "the next piece of the sparse twin", [spec])
            result = await self._main_segment(spec, "twin")
            parent, trained = result.id, trained + steps
            self.state.twin = Head(segment=parent, env_steps=trained, shaping=ShapingConfig.none())
            self.ledger.save_cursor(self.identity, self.state.model_dump(mode="json"))
        return True

    def _committed(self, label: str, rows: list[dict[str, Any]]) -> None:
        for row in rows:
            self.observer.event(row)

    def _progressed(self, progress: TrainingStatus) -> None:
        purpose, arm = self.trainer.purposes.get(progress.id, ("main", "main"))
        latest = {"sparse_return": progress.sparse_return, "progress": progress.progress}
        self.observer.progress(progress.id, purpose, arm, progress.done_env_steps, progress.total_env_steps, latest)

    def _show(self, context: SessionContext) -> None:
        state = self.state
        info: dict[str, Any] = {
            "session": self.identity,
            "task": self.settings.run.task,
            "round": state.round_number,
            "rounds": self.settings.rounds,
            "phase": state.phase,
            "stage": state.round.stage if state.round else None,
        }
        if state.head is not None:
            card = head_card(context, state.head)
            info |= {key: card[key] for key in ("env_steps", "sparse_return", "progress", "shaping_text")}
        self.observer.stage(info)


def _stored(record: type[Record], data: Any, session: str) -> Record:
    """What a session stored, read back; ``SessionError`` where this version cannot read it."""
    try:
        return record.model_validate(data)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(str(part) for part in problem["loc"])
        raise SessionError(
            f"Session {session} was written by another version of this program ({where}: {problem['msg']}): "
            "resume it with that version, or start a new session."
        ) from error


async def _nobody(role: str, question: str) -> str:
    raise RuntimeError(f"no agents were there to answer {question!r}")
