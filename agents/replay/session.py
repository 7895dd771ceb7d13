"""Plays a session again from its log: no model, no network, nothing trained; and holds it against its original."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from learning_signal.agents.human.turn import Turn
from learning_signal.agents.replay.differences import Divergence, differing_fact
from learning_signal.agents.replay.network import no_network
from learning_signal.agents.replay.original import Original
from learning_signal.agents.replay.played import Playback
from learning_signal.agents.replay.segments import RecordedSegments
from learning_signal.agents.session.observer import NOBODY_HERE, SessionControl
from learning_signal.agents.session.running import RunningSession, SessionError
from learning_signal.agents.session.surroundings import Surroundings
from learning_signal.ledger.read.reader import Reader
from learning_signal.ledger.wording import short
from learning_signal.ledger.write.writer import Ledger
from learning_signal.marl.segments.segment import SegmentStore
from learning_signal.marl.segments.version import code_version, libraries
from learning_signal.tools import lifecycle
from learning_signal.tools.context import Earlier, HumanAnswer, HumanQuestion
from learning_signal.tools.state import SessionState


@dataclass(frozen=True)
class Replayed:
    """A session that was played again."""

    session: str
    """The original."""
    replay: str
    """Its session in the log of the replay."""
    ledger: str
    """That log."""
    decisions: int
    """Decisions of the replay."""
    of_decisions: int
    """Those of the original."""
    requests: int
    """Requests that were asked again, answered and found the same."""
    of_requests: int
    """Those of the original."""
    stopped: str | None
    """Why the replay ended before the session was done: the original did not come further either, or ``divergence``."""
    divergence: Divergence | None
    model_seconds: float
    """Time that the models took in the original."""
    seconds: float
    """Time that the replay took."""


class Watcher:
    """Who watches a replay: nobody, but people answer what they answered."""

    def __init__(self, playback: Playback) -> None:
        self._playback = playback
        self.control = SessionControl()
        """Of the session that is watched now."""

    def event(self, row: dict[str, Any]) -> None:
        """Nothing is shown."""

    def progress(self, *position: Any) -> None:
        """Nothing is trained."""

    def stage(self, info: dict[str, Any]) -> None:
        """Nothing is shown."""

    def ask_human(self, question: HumanQuestion) -> HumanAnswer:
        """The recorded answer."""
        return self._playback.answer_of_a_person(question)

    def take_turn(self, turn: Turn) -> Mapping[str, str]:
        """Never asked: a person's replies are in the log, as a model's are."""
        return NOBODY_HERE


async def replay_session(original: Original, to: Path) -> Replayed:
    """Play ``original`` again into the log at ``to``, and compare every request and every fact.

    Raises ``SessionError`` where the store lacks segments, or the log at ``to`` is the original's own.
    """
    refuse_own_log(original, to)
    refuse_missing(original)
    done = original.row.status == "done"
    playback = Playback(original.script, original.path, original.settings.agents, done=done)
    executor = RecordedSegments(SegmentStore(original.settings.store), original.segments)
    began = time.perf_counter()
    with no_network(), Ledger.open(to) as ledger:
        identity = begin(original, ledger, f"plays session {original.row.id} of {original.path} again")
        status, stopped = await play(original, ledger, identity, playback, executor, Watcher(playback))
    seconds = time.perf_counter() - began
    divergence = _divergence(original, to, identity, playback, executor, status, stopped)
    with Reader.open(original.path) as reader, Reader.open(to) as replay:
        before, after = reader.decisions(original.row.id), replay.decisions(identity)
    return Replayed(
        session=original.row.id,
        replay=identity,
        ledger=str(to),
        decisions=len(after),
        of_decisions=len(before),
        requests=playback.position,
        of_requests=len(original.script.requests),
        stopped=stopped,
        divergence=divergence,
        model_seconds=original.script.model_seconds,
        seconds=seconds,
    )


def begin(original: Original, ledger: Ledger, title: str) -> str:
    """A session in the log of a replay, with the settings of ``original``; it is nobody's to be resumed.

    ``title`` follows its id in its first event.
    """
    settings = original.settings
    with ledger.transaction("replay-start"):
        identity = lifecycle.begin(ledger, settings, gate_mode=settings.gate.mode, ours=False)
        ledger.event(identity, "session", f"session {identity} {title}; {libraries()}")
        ledger.save_cursor(identity, SessionState().model_dump(mode="json"))
    return identity


async def play(
    original: Original, ledger: Ledger, identity: str, playback: Playback, executor: RecordedSegments, watcher: Watcher
) -> tuple[str, str | None]:
    """Play until the script or the session ends: (status, why it is not done). Pauses are gone over as they were."""
    settings = original.settings.model_copy(update={"ledger": ledger.path})
    surroundings = Surroundings(
        executor=executor,
        make_client=playback.client,
        earlier=Earlier(original.path, original.row.id),
        heard=original.script.heard,
        leaves_products=False,
    )
    while True:
        before, playback.changed = playback.position, False
        settings = settings.model_copy(update={"agents": dict(playback.agents)})
        watcher.control = SessionControl()
        session = RunningSession(settings, ledger, identity, watcher, watcher.control, surroundings)
        outcome = await session.run()
        goes_on = playback.changed or (playback.position > before and not playback.over)
        if outcome.status != "paused" or playback.divergence is not None or not goes_on:
            return outcome.status, outcome.stop_reason
        with ledger.transaction("session-resume"):
            lifecycle.resume(ledger, identity, SegmentStore(settings.store))


def _divergence(
    original: Original,
    to: Path,
    identity: str,
    playback: Playback,
    executor: RecordedSegments,
    status: str,
    stopped: str | None,
) -> Divergence | None:
    """The first point at which the replay left its original."""
    with Reader.open(original.path) as reader, Reader.open(to) as replay:
        fact = differing_fact(reader, original.row.id, replay, identity)
    if (asked := playback.divergence) is not None:
        earlier = fact is not None and fact.event is not None and asked.event is not None and fact.event < asked.event
        return fact if earlier else asked
    if executor.unknown is not None:
        then, now = original.row.code_version, code_version()
        why = "" if then == now else f" Its code version was {then}, this is {now}."
        return Divergence(None, f"{stopped}{why}")
    if fact is not None:
        return fact
    if original.row.status == "done" and status != "done":
        return Divergence(None, f"The session came to its end, the replay did not: {stopped}")
    if not playback.at_its_end:
        asked_next = original.script.requests[playback.position]
        sentence = (
            f"The session asked the {asked_next.role} here, the replay asks nothing more: {stopped or 'it is done.'}"
        )
        return Divergence(asked_next.event, sentence)
    return None


def refuse_own_log(original: Original, to: Path) -> None:
    """Raise ``SessionError`` where the log that is to be written is the one that is played."""
    if to.resolve() == original.path.resolve():
        raise SessionError(
            f"Found {to} as the log of a replay, expected another than that of session {original.row.id}."
        )


def refuse_missing(original: Original) -> None:
    """Raise ``SessionError`` where the store lacks segments of the session."""
    missing = original.missing()
    if missing:
        steps = short(sum(row.env_steps for row in missing))
        raise SessionError(
            f"Found {original.settings.store} without {len(missing)} of the {len(original.segments)} segments of "
            f"session {original.row.id}: say where they are with --store FOLDER, or have them trained again with "
            f"--retrain ({steps} env steps)."
        )
