"""Who watches a session, and how a user stops it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Protocol

from loguru import logger

from learning_signal.agents.human.turn import Turn
from learning_signal.tools.context import HumanAnswer, HumanQuestion


class Observer(Protocol):
    """Who watches a session: a live view, a log on a pipe, or a test."""

    def event(self, row: dict[str, Any]) -> None:
        """A committed event of the ledger, with ``text``: what was said, where it is a message or a call."""

    def progress(self, segment_id: str, purpose: str, arm: str, done: int, total: int, latest: dict[str, Any]) -> None:
        """How far a segment in flight is, in env steps."""

    def stage(self, info: dict[str, Any]) -> None:
        """Where the session stands, after every step."""

    def ask_human(self, question: HumanQuestion) -> HumanAnswer | None:
        """Approve or reject a promotion; may block, until ``question.withdrawn`` is set.

        None where nobody answers here: then the answer comes from another shell.
        """

    def take_turn(self, turn: Turn) -> Mapping[str, str]:
        """Take the turn of an agent that a person plays: the fields of ``Replied``; may block.

        What waits ends soon after ``turn.withdrawn`` is set.
        """


NOBODY_HERE = {"absent": "nobody watches this session who could type"}
"""The answer of an observer that has no terminal."""


class SessionControl:
    """How a user stops a session: ``request_pause`` after the running step, ``abort`` at once. Both can be resumed."""

    def __init__(self) -> None:
        self.pausing = False
        self._on_abort: Callable[[], object] | None = None
        self.aborted = False

    def request_pause(self) -> None:
        """Stop after the running step."""
        self.pausing = True

    def abort(self) -> None:
        """Stop now: workers are ended, the step in flight is taken again by a resume."""
        self.aborted = True
        if self._on_abort is not None:
            self._on_abort()

    def bind(self, on_abort: Callable[[], object]) -> None:
        """Set what ``abort`` calls."""
        self._on_abort = on_abort
        if self.aborted:
            on_abort()


class FailSafeObserver:
    """An observer that cannot fail the session: its first exception is logged, and nothing is passed to it after that.

    ``ask_human`` and ``take_turn`` are not covered: their exceptions reach the session, as there is no default answer.
    """

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._failed = False

    def event(self, row: dict[str, Any]) -> None:
        """Pass a committed event on."""
        self._tell(self._observer.event, row)

    def progress(self, *position: Any) -> None:
        """Pass on how far a segment is."""
        self._tell(self._observer.progress, *position)

    def stage(self, info: dict[str, Any]) -> None:
        """Pass on where the session stands."""
        self._tell(self._observer.stage, info)

    def ask_human(self, question: HumanQuestion) -> HumanAnswer | None:
        """Pass a question on."""
        return self._observer.ask_human(question)

    def take_turn(self, turn: Turn) -> Mapping[str, str]:
        """Pass a turn on."""
        return self._observer.take_turn(turn)

    def _tell(self, look: Callable[..., None], *what: Any) -> None:
        if self._failed:
            return
        try:
            look(*what)
        except Exception as error:  # noqa: BLE001 - whatever a view may raise
            self._failed = True
            logger.error("the view of the session failed and is switched off: {}: {}", type(error).__name__, error)


async def in_thread(work: Callable[[], Any]) -> Any:
    """The result of ``work``, however long it blocks. Unlike ``asyncio.to_thread``, its thread is not waited for when
    the session is stopped.
    """
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[Any] = loop.create_future()

    def deliver(set_outcome: Callable[[Any], None], value: Any) -> None:
        if not answer.done():
            set_outcome(value)

    def run() -> None:
        try:
            value = work()
        except Exception as error:  # noqa: BLE001 - it is raised again where the answer is awaited
            set_outcome, value = answer.set_exception, error
        else:
            set_outcome = answer.set_result
        with suppress(RuntimeError):  # the loop is closed: the session was stopped and nobody waits
            loop.call_soon_threadsafe(deliver, set_outcome, value)

    threading.Thread(target=run, name="aside", daemon=True).start()
    return await answer
