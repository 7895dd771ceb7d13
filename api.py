"""What ``import learning_signal`` offers to scripts and notebooks: the commands ``train``, ``session`` and ``log``.

``train`` and ``run_session`` return when the run has ended. Each runs in an event loop and a thread of its own, so the
same call works in a script and in a notebook, whose own loop is running already.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from learning_signal.agents.session.outcome import SessionOutcome
    from learning_signal.ledger.read.tables.log import Log
    from learning_signal.marl.shaping import ShapingConfig
    from learning_signal.tools.context import HumanAnswer, HumanQuestion
    from learning_signal.tools.plan.settings import SessionSettings
    from learning_signal.tools.plan.sources import Given
    from learning_signal.tools.training.settings import TrainingOutcome, TrainingSettings

Config = str | Path | Mapping[str, Any]
"""A config file, or what it would hold as nested mappings."""
OnEvent = Callable[[Mapping[str, Any]], None]
"""Is given every event of the log as it is committed; ``event["title"]`` says what happened."""
Outcome = TypeVar("Outcome")


def train(
    *,
    task: str | None = None,
    algorithm: str | None = None,
    shaping: ShapingConfig | None = None,
    env_steps: int | None = None,
    segment_steps: int | None = None,
    seed: int | None = None,
    device: str | None = None,
    ledger: str | Path | None = None,
    store: str | Path | None = None,
    config: Config | None = None,
    settings: TrainingSettings | None = None,
    on_event: OnEvent | None = None,
) -> TrainingOutcome:
    """Train without agents, under one shaping, and return what came of it.

    The same call goes on where an interrupted one stopped. Ctrl-C stops the run and raises ``KeyboardInterrupt``.

    Args:
        task: name with options, such as ``"spread?agents=5"``, or ``"module:factory"``. [spread]
        algorithm: mappo, ippo, qmix or vdn. [mappo]
        shaping: in force from the first env step to the last; none when not given.
        env_steps: env steps to train, rounded up to whole rollouts. [1,000,000]
        segment_steps: env steps of a segment: what a crash loses at most. [100,000]
        seed: of the initial weights, the episodes and the minibatches. [0]
        device: cpu or cuda. [cpu]
        ledger: the SQLite log. [runs/ledger.db]
        store: folder of checkpoints and results. [runs/segments]
        config: everything else a config file may set; what is given above takes precedence.
        settings: the complete settings instead of everything above.
        on_event: is given every event as it is committed, in another thread.

    Raises ``ValueError`` (or ``LedgerError``, ``ExecutorError``) with one sentence, before anything is written.
    """
    from learning_signal.agents.session.observer import SessionControl
    from learning_signal.tools.plan.runnable import refuse_wrong_run
    from learning_signal.tools.training.run import train as train_chain
    from learning_signal.tools.training.settings import TrainingSettings

    options = {"task": task, "algorithm": algorithm, "seed": seed, "device": device, "ledger": ledger, "store": store}
    own = {"shaping": shaping, "env_steps": env_steps, "segment_steps": segment_steps}
    own = {name: value for name, value in own.items() if value is not None}
    if settings is None:
        settings = TrainingSettings.of(_given(options, config).settings({}, {}), **own)
    else:
        _refuse_beside_settings({**options, **own, "config": config})
    refuse_wrong_run(settings)
    control = SessionControl()
    return _to_the_end(lambda: train_chain(settings, observer=_Told(on_event), control=control), control.abort)


def run_session(
    *,
    task: str | None = None,
    algorithm: str | None = None,
    agents: str | Mapping[str, str] | None = None,
    shadows: Mapping[str, str] | None = None,
    rounds: int | None = None,
    stage_steps: int | None = None,
    branch_steps: int | None = None,
    budget: str | None = None,
    seed: int | None = None,
    device: str | None = None,
    workers: int | None = None,
    ledger: str | Path | None = None,
    store: str | Path | None = None,
    config: Config | None = None,
    settings: SessionSettings | None = None,
    approve: Callable[[HumanQuestion], bool] | None = None,
    check: bool = True,
    on_event: OnEvent | None = None,
) -> SessionOutcome:
    """Run a supervised session and return what came of it.

    Worker processes are spawned: a script calls this below ``if __name__ == "__main__":``. Ctrl-C stops the session and
    raises ``KeyboardInterrupt``; ``learning-signal resume`` goes on with it.

    Args:
        task: name with options, such as ``"spread?agents=5"``, or ``"module:factory"``. [spread]
        algorithm: mappo, ippo, qmix or vdn. [mappo]
        agents: backend spec of all agents, such as ``"ollama/qwen3:8b"``, or one by role: critic, generator,
            validator, coordinator, and ``all`` for the others. [rules]
        shadows: by role (or ``all``), the spec of a second backend that is asked what the agent is asked; its answers
            are written down and change nothing. [none]
        rounds: most deliberations. [3]
        stage_steps: env steps of a stage of the main run. [by task]
        branch_steps: env steps of a confirmation branch. [by task]
        budget: limits such as ``"env-steps=2M,tokens=500k,time=2h,usd=3"``. [none]
        seed: of the session; every other seed derives from it. [0]
        device: cpu or cuda. [cpu]
        workers: segments computed at a time. [one per core]
        ledger: the SQLite log. [runs/ledger.db]
        store: folder of checkpoints and results. [runs/segments]
        config: everything else a config file may set; what is given above takes precedence.
        settings: the complete settings instead of everything above.
        approve: is asked before every promotion, in another thread; False rejects it. Without it the verdict and the
            Coordinator decide.
        check: whether every model backend is tried with a small tool call before anything is trained.
        on_event: is given every event as it is committed, in another thread.

    Raises ``ValueError`` (or ``LedgerError``, ``ExecutorError``) with one sentence, before anything is written.
    """
    from learning_signal.agents.model.specs import parse_chain, resolve_specs, shadows_of
    from learning_signal.agents.session.observer import SessionControl
    from learning_signal.agents.session.session import run_session as run_to_the_end
    from learning_signal.agents.session.usable import refuse_unusable
    from learning_signal.tools.plan.runnable import refuse_wrong_run
    from learning_signal.tools.plan.sources import SettingsError

    options = {
        "task": task,
        "algorithm": algorithm,
        "rounds": rounds,
        "stage_steps": stage_steps,
        "branch_steps": branch_steps,
        "budget": budget,
        "seed": seed,
        "device": device,
        "workers": workers,
        "approve": None if approve is None else "human",
        "ledger": ledger,
        "store": store,
    }
    if settings is None:
        given = _given(options, config)
        named = {"all": agents} if isinstance(agents, str) else dict(agents or {})
        backends = resolve_specs(named, {}, given.agents)
        settings = given.settings(
            {role: each.text for role, each in backends.items()}, {role: each.source for role, each in backends.items()}
        )
        settings = settings.model_copy(update={"shadows": shadows_of(shadows or {})})
    else:
        _refuse_beside_settings({**options, "agents": agents, "shadows": shadows, "config": config, "approve": None})
        settings = settings if approve is None else settings.model_copy(update={"approve": "human"})
    if settings.approve == "human" and approve is None:
        raise SettingsError("Found approve = human and nobody to ask, expected a function: give approve=.")
    for spec in settings.agents.values():
        parse_chain(spec)
    refuse_wrong_run(settings, settings.workers)
    control = SessionControl()
    told = _Told(on_event, approve)

    async def run() -> SessionOutcome:
        if check:
            every = [settings.agents, settings.shadows]
            await refuse_unusable(every, "name another with agents= or shadows=, or leave the check out: check=False")
        return await run_to_the_end(settings, observer=told, control=control)

    return _to_the_end(run, control.abort)


def open_log(path: str | Path = "runs/ledger.db") -> Log:
    """The log at ``path``, to read: sessions, events, decisions, evaluations and costs, as records and as tables.

    It is a context manager. Raises ``LedgerError`` where there is no log.
    """
    from learning_signal.ledger.read.tables.log import Log

    return Log.open(path)


def _given(options: Mapping[str, Any], config: Config | None) -> Given:
    """What the arguments and ``config`` set. The environment sets nothing: a script says what it runs."""
    from learning_signal.tools.plan.sources import gather

    found = gather(options, {}, Path(config) if isinstance(config, str) else config)
    names = {f"--{name.replace('_', '-')}": f"{name}=" for name in options}
    places = {key: names.get(place, place) for key, place in found.places.items()}
    return replace(found, places=places)


def _refuse_beside_settings(arguments: Mapping[str, Any]) -> None:
    from learning_signal.tools.plan.sources import SettingsError

    beside = [name for name, value in arguments.items() if value is not None]
    if beside:
        raise SettingsError(f"Found settings= and {beside[0]}=, expected one of them: leave one out.")


class _Told:
    """The observer of a run: passes events and questions on to functions of the caller."""

    def __init__(self, on_event: OnEvent | None, approve: Callable[[HumanQuestion], bool] | None = None) -> None:
        self._on_event, self._approve = on_event, approve

    def event(self, row: dict[str, Any]) -> None:
        if self._on_event is not None:
            self._on_event(row)

    def progress(self, *position: Any) -> None:
        """Events are enough for a caller that waits."""

    def stage(self, info: dict[str, Any]) -> None:
        """Where the session stands is in its events too."""

    def ask_human(self, question: HumanQuestion) -> HumanAnswer:
        from learning_signal.tools.context import HumanAnswer

        assert self._approve is not None, "a session that asks has somebody to ask"
        approved = bool(self._approve(question))
        return HumanAnswer(approved, f"{'approved' if approved else 'rejected'} by the caller of run_session")

    def take_turn(self, turn: Any) -> Mapping[str, str]:
        from learning_signal.agents.session.observer import NOBODY_HERE

        return NOBODY_HERE


def _to_the_end(work: Callable[[], Awaitable[Outcome]], abort: Callable[[], None]) -> Outcome:
    """The result of ``work`` in an event loop and a thread of its own; Ctrl-C calls ``abort`` there and waits."""
    outcome: Future[Outcome] = Future()
    loops: list[asyncio.AbstractEventLoop] = []

    async def main() -> Outcome:
        loops.append(asyncio.get_running_loop())
        return await work()

    def run() -> None:
        try:
            outcome.set_result(asyncio.run(main()))
        except BaseException as error:  # noqa: BLE001 - it is raised again in the thread that waits
            outcome.set_exception(error)

    thread = threading.Thread(target=run, name="learning-signal")
    thread.start()
    try:
        return outcome.result()
    except KeyboardInterrupt:
        if loops and thread.is_alive():
            loops[0].call_soon_threadsafe(abort)
        else:
            abort()
        raise
    finally:
        thread.join()
