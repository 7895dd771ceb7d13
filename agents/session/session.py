"""Starts a supervised session, or goes on with a stored one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from learning_signal.agents.model.prices import refuse_unpriced
from learning_signal.agents.roles import FALLBACK, secrets_of
from learning_signal.agents.session.consent import uses_of_session
from learning_signal.agents.session.observer import Observer, SessionControl
from learning_signal.agents.session.outcome import SessionOutcome
from learning_signal.agents.session.running import RunningSession, standing, stored
from learning_signal.agents.session.surroundings import Surroundings
from learning_signal.ledger.read.reader import Reader
from learning_signal.ledger.wording import goes_on
from learning_signal.ledger.write.writer import Ledger
from learning_signal.marl.executors.base import Executor
from learning_signal.marl.executors.choice import refuse_unreachable
from learning_signal.marl.gate.judge import Judge
from learning_signal.marl.gate.judges import SEQUENTIAL
from learning_signal.marl.segments.segment import SegmentStore
from learning_signal.marl.segments.version import libraries
from learning_signal.marl.tasks import make_task
from learning_signal.tools import lifecycle
from learning_signal.tools.consent import NO_CONSENT, Consent, admit
from learning_signal.tools.plan.budget import Budget, Price, refuse_spent
from learning_signal.tools.plan.settings import SessionSettings, as_made
from learning_signal.tools.plan.suitability import refuse_unsuitable, refuse_untested, remarks
from learning_signal.tools.round.record import begin_chains_anew
from learning_signal.tools.spending import spent_of
from learning_signal.tools.state import SessionState


async def run_session(
    settings: SessionSettings,
    *,
    observer: Observer,
    control: SessionControl | None = None,
    executor: Executor | None = None,
    judge: Judge = SEQUENTIAL,
) -> SessionOutcome:
    """Run a new session to its end (or to a pause), on workers of its own or on an ``executor`` that stays open.

    A study hands over the ``judge`` of its arm; a gate that tests nothing is refused with any other.

    Raises ``SessionError``, ``LedgerError``, ``SpecError`` or the task's own error, one sentence each.
    """
    # A wrong task, or one that the learner cannot learn, is refused before anything is written.
    task = make_task(settings.run.task, 1).spec
    settings.run.learner.refuse(task)
    refuse_unsuitable(settings, task, judge)
    refuse_unpriced(settings, settings.budget)
    if executor is None:
        refuse_unreachable(settings.executor)
    settings = settings.model_copy(update={"store": settings.store.resolve()})  # a resume may start in another folder
    with Ledger.open(settings.ledger, secrets_of(settings)) as ledger:
        with ledger.transaction("session-start"):
            identity = lifecycle.begin(ledger, settings, gate_mode=settings.gate.mode, budget=settings.budget.limits())
            title = f"session {identity} on {settings.run.task} begins{_from(settings)}; {libraries()}"
            ledger.event(identity, "session", title)
            ledger.save_cursor(identity, SessionState(budget=settings.budget).model_dump(mode="json"))
        session = RunningSession(
            settings, ledger, identity, observer, control or SessionControl(), Surroundings(executor)
        )
        session.say(remarks(settings, task))
        return await session.run()


def _from(settings: SessionSettings) -> str:
    """What the main run begins with, where it is not newly drawn weights."""
    root = settings.root
    if root is None:
        return ""
    what = "" if root.whole else " (its weights; critics and optimisers are new)"
    return f" from {root.of}{what}, trained for {root.env_steps:,} env steps"


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
    judge: Judge = SEQUENTIAL,
    consent: Consent = NO_CONSENT,
    settings: SessionSettings | None = None,
) -> SessionOutcome:
    """Resume a paused, interrupted, failed or killed session. ``agents`` replaces backend specs by role, ``budget``
    limits and ``prices`` prices by name, for this resume and the next. ``judge`` is for a study, as in ``run_session``,
    and so are ``settings``, which then replace the stored ones.

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
        refuse_untested(settings.gate.judge, judge)
        refuse_spent(budget or {}, spent_of(reader.costs(row.id)))
    if executor is None:
        refuse_unreachable(settings.executor)
    with Ledger.open(path, secrets_of(settings)) as ledger:
        with ledger.transaction("session-resume"):
            lifecycle.resume(ledger, row.id, SegmentStore(settings.store))
            state = standing(settings, ledger, row.id)
            state.budget = Budget(**state.budget.model_dump() | dict(budget or {}))
            state.prices |= prices or {}
            if state.round is not None:  # a chain that is given anew begins with its first
                begin_chains_anew(state.round, agents or {})
            settings = settings.model_copy(update={"prices": settings.prices | state.prices})
            refuse_unpriced(settings, state.budget)
            changed = f" with a budget of {state.budget.describe()}" if budget else ""
            ledger.event(row.id, "session", f"{goes_on(row.id)}{changed}; {libraries()}")
            ledger.set_budget(row.id, state.budget.limits())
            ledger.save_cursor(row.id, state.model_dump(mode="json"))
        surroundings = Surroundings(executor)
        return await RunningSession(settings, ledger, row.id, observer, control or SessionControl(), surroundings).run()


def to_resume(reader: Reader, session: str, agents: Mapping[str, str], changes: Mapping[str, Any]) -> SessionSettings:
    """The settings a stored session resumes with: its own, but for backends in ``agents`` and fields in ``changes``."""
    settings = stored(SessionSettings, as_made(reader.config(session)), session)
    # Who spoke last in each role: an earlier resume may have changed it. Rows are in order of time.
    spoken = {agent.role: agent for agent in reader.agents(session) if agent.source != FALLBACK}
    specs = settings.agents | {role: agent.spec for role, agent in spoken.items()} | dict(agents)
    sources = settings.agent_sources | {role: agent.source for role, agent in spoken.items()}
    sources |= dict.fromkeys(agents, "command line (resume)")
    resumed = {"ledger": reader.path, "agents": specs, "agent_sources": sources, "shadows": {}}
    return settings.model_copy(update=resumed | dict(changes))
