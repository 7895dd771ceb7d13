"""The life cycle of a session's row in the ledger, with or without agents: begin, heartbeat, end."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

from loguru import logger

from learning_signal.ledger.errors import LedgerError, SessionTaken
from learning_signal.ledger.file.lost import LedgerLost
from learning_signal.ledger.wording import cut_off_text
from learning_signal.ledger.write.writer import Ledger
from learning_signal.marl.segments.segment import SegmentStore
from learning_signal.marl.segments.version import code_version
from learning_signal.marl.settings import RunSettings

HEARTBEAT_SECONDS = 5.0

Result = TypeVar("Result")


class Settings(Protocol):
    """The stored settings of a session or a training run."""

    @property
    def run(self) -> RunSettings:
        """Task, learner and evaluation."""

    @property
    def seed(self) -> int:
        """The seed of everything."""

    def model_dump(self, *, mode: str) -> dict[str, Any]:
        """All of them, as JSON data."""


def begin(
    ledger: Ledger,
    settings: Settings,
    kind: str = "run",
    gate_mode: str | None = None,
    budget: Mapping[str, float] | None = None,
    ours: bool = True,
) -> str:
    """Add the row of a new session, inside the caller's transaction; returns its id.

    ``gate_mode`` and ``budget`` (limits by name) are those of a session with agents. ``ours`` is False where the
    settings come from a log, so that they do not become this user's by being played again.
    """
    return ledger.begin_session(
        kind=kind,
        task=settings.run.task,
        algorithm=settings.run.learner.algorithm,
        seed=settings.seed,
        config=settings.model_dump(mode="json"),
        code_version=code_version(),
        gate_mode=gate_mode,
        budget=budget,
        ours=ours,
    )


def resume(ledger: Ledger, session: str, store: SegmentStore) -> None:
    """Mark a session as running again, inside the caller's transaction; ``LedgerError`` where it cannot be.

    What a killed process had in flight is lost, and nobody knows how much: of what it did not store, that is counted.
    """
    if not ledger.resume_session(session, code_version()):
        return
    pending = ledger.find("segments", session_id=session, status="pending")
    lost = sum(bool(row["env_steps"]) and not row["reused"] and not store.has(row["id"]) for row in pending)
    if lost:
        ledger.add_cut_off(session, 0, lost)
        ledger.event(session, "session", cut_off_text(0, lost))


async def while_alive(ledger: Ledger, session: str, work: asyncio.Future[Result]) -> Result:
    """The result of ``work``, with a heartbeat in the ledger for as long as it runs.

    ``work`` has ended when this returns or raises. Raises what ``work`` raises, or ``SessionTaken`` as soon as another
    process takes the session over, or ``LedgerLost`` as soon as the ledger is gone from its place (the next commit
    would fail too, but may be a long branch away).
    """
    heart = asyncio.ensure_future(_beat(ledger, session))
    both: set[asyncio.Future[Any]] = {work, heart}
    try:
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        if heart.done() and not work.done():
            heart.result()
        return work.result()
    finally:
        heart.cancel()
        if not work.done():
            work.cancel()
            await asyncio.wait({work})


def end(ledger: Ledger, session: str, noun: str, status: str, reason: str | None) -> None:
    """Write that the ``noun`` (session, training) has ended as ``status``, and interrupt what is still pending."""
    with ledger.transaction("session-end"):
        if status != "done":
            ledger.interrupt_pending(session)
        verb = "has" if status == "failed" else "is"
        title = f"{noun} {session} {verb} {status}" + (f": {reason}" if reason else "")
        outcome = {"failed": "error", "interrupted": "interrupted"}.get(status, "ok")
        ledger.event(session, "session", title, status=outcome)
        ledger.end_session(session, status, reason)


@contextmanager
def last_words() -> Iterator[None]:
    """Around what is written once something has failed: that this cannot be written must not hide why, such as a full
    disk. That the ledger is lost is why.
    """
    try:
        yield
    except LedgerLost:
        raise
    except LedgerError:
        pass


async def _beat(ledger: Ledger, session: str) -> None:
    while True:
        await asyncio.sleep(HEARTBEAT_SECONDS)
        try:
            ledger.heartbeat(session)
        except (SessionTaken, LedgerLost):
            raise
        except LedgerError as error:  # a failed heartbeat is retried at the next one
            logger.warning("session {} could not write its heartbeat: {}", session, error)
