"""A session at work, from its first segment to its report: stages and rounds in turn, resumable at every step."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager, nullcontext, suppress
from importlib import import_module
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ValidationError

from learning_signal.agents.deliberation import Deliberation
from learning_signal.agents.model.call import CallContext
from learning_signal.agents.model.errors import BackendError
from learning_signal.agents.roles import build_chains
from learning_signal.agents.session.hearing import Hearing
from learning_signal.agents.session.observer import FailSafeObserver, Observer, SessionControl, in_thread
from learning_signal.agents.session.outcome import SessionOutcome, outcome_of, write_products
from learning_signal.agents.session.seat import Seat
from learning_signal.agents.session.stages import conclude_stage
from learning_signal.agents.session.surroundings import Surroundings
from learning_signal.agents.speakers import Speakers
from learning_signal.agents.tokens import count_tokens
from learning_signal.ledger.errors import LedgerError
from learning_signal.ledger.read.reader import Reader
from learning_signal.ledger.wording import shaping_text
from learning_signal.ledger.write.writer import Ledger
from learning_signal.marl.errors import SegmentFailed
from learning_signal.marl.executors.base import Executor
from learning_signal.marl.executors.choice import open_executor
from learning_signal.marl.paths import inside
from learning_signal.marl.randomness import derive
from learning_signal.marl.segments.segment import SegmentResult, SegmentSpec, SegmentStore, TrainingStatus
from learning_signal.marl.shaping import ShapingConfig
from learning_signal.marl.tasks import make_task
from learning_signal.tools import lifecycle
from learning_signal.tools.base import CannotGoOn
from learning_signal.tools.briefs.cards import head_card
from learning_signal.tools.candidates.offers import dismiss
from learning_signal.tools.context import HumanAnswer, HumanQuestion, SessionContext
from learning_signal.tools.plan.evaluation import branch_episodes
from learning_signal.tools.plan.settings import SessionSettings
from learning_signal.tools.recall import recalled
from learning_signal.tools.round.speculation import finish
from learning_signal.tools.spending import OutOfBudget, afford_segments
from learning_signal.tools.state import Head, SessionState
from learning_signal.tools.trainer import Trainer

Record = TypeVar("Record", bound=BaseModel)


class SessionError(ValueError):
    """A session cannot start or go on; the message is one sentence."""


class RunningSession:
    """One running session: the loop over stages, rounds and the report."""

    def __init__(
        self,
        settings: SessionSettings,
        ledger: Ledger,
        identity: str,
        observer: Observer,
        control: SessionControl,
        surroundings: Surroundings,
    ) -> None:
        self.settings, self.ledger, self.identity = settings, ledger, identity
        self.observer, self.control, self.surroundings = FailSafeObserver(observer), control, surroundings
        self.state = standing(settings, ledger, identity)
        self._complete: str | None = None
        """The segment of HEAD whose query and report episodes are known to be played."""
        self.ledger.on_commit = self._committed

    def say(self, remarks: list[str]) -> None:
        """Report what limits this session to the observer and the ledger."""
        if remarks:
            with self.ledger.transaction("remarks"):
                for remark in remarks:
                    self.ledger.event(self.identity, "session", remark)

    async def run(self) -> SessionOutcome:
        """Run until the end, a pause, an abort, or an error that a resume may overcome."""
        status = "failed"
        reason: str | None = "The program failed; this is a bug: see the traceback."
        budget_needed: str | None = None
        try:
            async with self._opened() as (context, deliberation):
                loop = asyncio.ensure_future(self._loop(context, deliberation))
                self.control.bind(lambda: loop.cancel())
                try:
                    finished = await lifecycle.while_alive(self.ledger, self.identity, loop)
                    status, reason = ("done", None) if finished else ("paused", "Paused on request.")
                except asyncio.CancelledError:
                    status, reason = "interrupted", "Stopped in the middle of a step."
                    if not self.control.aborted:
                        raise
                except (BackendError, CannotGoOn) as error:
                    status, reason = "paused", str(error)
                    budget_needed = error.budget if isinstance(error, OutOfBudget) else None
                except SessionError as error:
                    status, reason = "failed", str(error)
        except BaseException as error:
            with lifecycle.last_words():
                lifecycle.end(self.ledger, self.identity, "session", status, str(error) or reason)
            raise
        lifecycle.end(self.ledger, self.identity, "session", status, reason)
        return outcome_of(self.settings, self.ledger.path, self.identity, self.state, budget_needed)

    @asynccontextmanager
    async def _opened(self) -> AsyncIterator[tuple[SessionContext, Deliberation]]:
        """Workers and agents for as long as the session runs."""
        loop, settings, given = asyncio.get_running_loop(), self.settings, self.surroundings.executor

        def progressed(status: TrainingStatus) -> None:
            loop.call_soon_threadsafe(self._progressed, status)

        def own() -> Executor:
            return open_executor(
                settings.store, settings.workers, progressed, settings.executor, tasks=(settings.run.task,)
            )

        opened: AbstractContextManager[Executor]
        if given is not None:
            opened = nullcontext(given)
        elif settings.executor.kind == "ray":
            opened = await in_thread(own)  # a cluster may take a minute to answer, and Ctrl-C must work meanwhile
        else:
            opened = own()
        with opened as pool:
            loop.run_in_executor(None, import_module, "scipy.stats")  # while the workers start; comparisons need it
            task, store = make_task(settings.run.task, 1).spec, SegmentStore(settings.store)
            held_out = branch_episodes(settings.run, settings.branch_steps, task)
            self.trainer = Trainer(pool, store, self.ledger, self.identity, settings.run, held_out)
            context = SessionContext(
                session=self.identity,
                settings=settings,
                task=task,
                state=self.state,
                trainer=self.trainer,
                ledger=self.ledger,
                count_tokens=count_tokens,
                ask_agent=_nobody,
                ask_human=_nobody_here,
                earlier=self.surroundings.earlier,
            )
            self.hearing = Hearing(context, self.observer, self.control, self.surroundings.heard)
            call_context = CallContext(person=Seat(self.observer, self.control).take)
            speakers = Speakers(context, build_chains(context, call_context, self.surroundings.make_client))
            deliberation = Deliberation(context, speakers, call_context)
            try:
                yield context, deliberation
            finally:
                self.trainer.stop()
                if given is None:
                    pool.close()
                elif self.control.aborted:
                    pool.cancel_all()
                with suppress(LedgerError):  # a full disk, or a take-over, must not hide its own message
                    self.trainer.count_cut_off()
                for agent in speakers:
                    await agent.client.close()

    async def _loop(self, context: SessionContext, deliberation: Deliberation) -> bool:
        """Step by step until the session is done (True) or a pause was asked for (False)."""
        await self._complete_head()
        self._show(context)
        while self.state.phase != "done":
            if self.control.pausing:
                return False
            self.hearing.hear()
            if self.state.phase == "stage":
                await self._stage(context, deliberation)
            elif self.state.phase == "report":
                await self._report(context)
            else:
                await deliberation.step()
            await self._complete_head()
            self._show(context)
        return True

    async def _complete_head(self) -> None:
        """See that the query and the report episodes of HEAD are played, which may have been a branch until now."""
        head = self.state.head
        if head is not None and head.segment != self._complete:
            with self._must_succeed("main"):
                await self.trainer.complete(head.segment)
            self._complete = head.segment

    async def _stage(self, context: SessionContext, deliberation: Deliberation) -> None:
        """Train the main run for one stage and decide what follows."""
        state = self.state
        head = state.head
        shaping = head.shaping if head else ShapingConfig.none()
        spec = self.trainer.spec(
            head.segment if head else self._root,
            shaping,
            context.stage_steps,
            derive(self.settings.seed, "stage", state.stages),
            "main",
        )
        afford_segments(context, "the next stage", [spec])
        result = await self._main_segment(spec)
        self.hearing.hear()  # what was asked meanwhile counts at its end
        conclude_stage(context, deliberation, result)

    @property
    def _root(self) -> str | None:
        """The segment that the main run and the twin begin from; None for newly drawn weights."""
        return None if self.settings.root is None else self.settings.root.segment

    async def _main_segment(self, spec: SegmentSpec, purpose: Literal["main", "twin"] = "main") -> SegmentResult:
        self.trainer.launch(spec, purpose, purpose)
        with self._must_succeed(purpose):
            return await self.trainer.result(spec.id)

    @contextmanager
    def _must_succeed(self, purpose: Literal["main", "twin"]) -> Iterator[None]:
        """Turns the failure of a segment that the session rests on into a ``SessionError``."""
        try:
            yield
        except SegmentFailed as failure:
            self.ledger.add_lost(self.identity, purpose, failure.env_steps)
            raise SessionError(f"The {purpose} run stopped: {failure}") from failure

    async def _report(self, context: SessionContext) -> None:
        """Train the twin where asked for, write the products, and be done."""
        if self.state.twin_steps is None:  # before the twin starts, every pending segment belongs to a round
            await finish(context)
        if self.settings.twin and not await self._twin(context):
            return
        title = "final policy and shaping are not written"
        if self.surroundings.leaves_products:
            folder = inside(self.settings.ledger.parent, self.identity)
            write_products(folder, self.trainer.store, context.head)
            title = f"final policy and shaping are in {folder}"
        with self.ledger.transaction("report"):
            self.state.phase = "done"
            dismiss(context)
            context.event("session", title)
            self.ledger.save_cursor(self.identity, self.state.model_dump(mode="json"))

    async def _twin(self, context: SessionContext) -> bool:
        """The sparse twin: the same learner without shaping for as many env steps as everything else together.

        False where a pause was asked for before it was trained.
        """
        if self.state.twin_steps is None:
            with Reader.open(self.ledger.path) as reader:
                costs = reader.costs(self.identity)
            self.state.twin_steps = costs.env_steps_main + costs.env_steps_branches + costs.env_steps_reused
            self.ledger.save_cursor(self.identity, self.state.model_dump(mode="json"))
        parent, trained = self._root, 0
        while trained < self.state.twin_steps:
            if self.control.pausing:
                return False
            steps = min(context.stage_steps, self.state.twin_steps - trained)
            seed = derive(self.settings.seed, "twin", trained)
            spec = self.trainer.spec(parent, ShapingConfig.none(), steps, seed, "twin")
            afford_segments(context, "the next piece of the sparse twin", [spec])
            result = await self._main_segment(spec, "twin")
            parent, trained = result.id, trained + steps
            self.state.twin = Head(segment=parent, env_steps=result.end_env_steps, shaping=ShapingConfig.none())
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
            info |= {key: card[key] for key in ("env_steps", "sparse_return", "progress")}
            info["shaping_text"] = shaping_text(state.head.shaping.canonical())
        self.observer.stage(info)


def standing(settings: SessionSettings, ledger: Ledger, session: str) -> SessionState:
    """Where a session stands, by its cursor and its rows; ``SessionError`` where this version cannot read them."""
    cursor = stored(SessionState, ledger.load_cursor(session), session)
    with Reader.open(ledger.path) as reader, _readable(session):
        return recalled(reader, session, cursor, settings.gate)


def stored(record: type[Record], data: Any, session: str) -> Record:
    """What a session stored, read back; ``SessionError`` where this version cannot read it."""
    with _readable(session):
        return record.model_validate(data)


@contextmanager
def _readable(session: str) -> Iterator[None]:
    """Turns what this version cannot read of a session into a ``SessionError``."""
    try:
        yield
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(str(part) for part in problem["loc"])
        raise SessionError(
            f"Session {session} was written by another version of this program ({where}: {problem['msg']}): "
            "resume it with that version, or start a new session."
        ) from error


async def _nobody(role: str, question: str) -> str:
    raise RuntimeError(f"no agents were there to answer {question!r}")


async def _nobody_here(question: HumanQuestion) -> HumanAnswer:
    raise RuntimeError(f"nobody was there to be asked {question.id}")
