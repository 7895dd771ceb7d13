"""Records the ledger that the tests of reading share: one session by the program itself, cut off as by a kill.

    .venv/bin/python -m tests.support.record_ledger

Training is synthetic, with a part for every shaping, and a scripted server answers for the Critic; whatever is
written is written by the program. Run it where ``tests/ledger/test_recorded.py`` says that it writes something else.
"""

from __future__ import annotations

import asyncio
import json
import lzma
import os
import sqlite3
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from itertools import count
from pathlib import Path
from typing import Any
from unittest import mock

from learning_signal.agents.session.observer import SessionControl
from learning_signal.agents.session.session import resume_session, run_session
from learning_signal.marl.errors import SegmentFailed
from learning_signal.marl.randomness import derive
from learning_signal.marl.segments.segment import SegmentResult, SegmentSpec, SegmentStore
from learning_signal.marl.shaping import ShapingConfig
from learning_signal.tools.context import HumanAnswer
from learning_signal.tools.plan.evaluation import evaluated_for
from learning_signal.tools.plan.settings import DeliberationSettings, SessionSettings, TriggerSettings
from tests.support.recorded_ledger import RECORDED_ID, STORED
from tests.support.scripted_server import Reply, call, calls, error, serving, text
from tests.support.session_helpers import Recorder, tiny_settings
from tests.support.synthetic_training import PLAIN, STAGE_STEPS, InlinePool, train

CRITIC = "openai/gpt-4.1?temperature=0"
WORKER_DIED = "The worker died (signal 9, SIGKILL)."
SCREEN_STEPS, BRANCH_STEPS, CONFIRM_SEEDS = 200, 400, 5


@dataclass(frozen=True)
class Part:
    """What a shaping does: the progress it gains per env step, by what it is trained for."""

    screen: float
    confirm: Sequence[float] = ()
    """One value per seed."""
    main: float = PLAIN
    dies: bool = False
    """Whether the first segment of its screen fails."""


PARTS = (
    # Round 1: c1 leads the screen, passes and holds; a worker of c3 dies.
    Part(1e-4, (1e-4, 9e-5, 1.2e-4, 1e-4, 1.1e-4), main=1e-4),
    Part(3e-5),
    Part(1e-4, dies=True),
    # Round 2, against c1: what leads the screen fails; after a refinement what leads is now better, now worse.
    Part(1.1e-4, (5e-5, 6e-5, 5e-5, 7e-5, 4e-5)),
    Part(9e-5),
    Part(8e-5),
    Part(1.2e-4, (2.2e-4, 4e-5, 2.2e-4, 4e-5, 1.2e-4)),
    Part(9e-5),
    Part(8e-5),
    # Round 3: what passes on sparse return regresses in the stage after it.
    Part(4e-4, (4e-4, 4.2e-4, 3.9e-4, 4e-4, 4.4e-4), main=-1e-2),
    Part(9e-5),
    Part(8e-5),
)
"""In the order in which the shapings are proposed."""


def looks(*names: str) -> Reply:
    """The Critic reads metrics."""
    return call("query_metrics", json.dumps({"names": names}))


def diagnoses(stage: str, description: str, advice: str, *evidence: str) -> Reply:
    """The Critic ends its phase."""
    failures = [{"description": description, "evidence": evidence}]
    return call("submit_diagnosis", json.dumps({"stage": stage, "failures": failures, "advice": advice}))


FIRST = ("exploring", "No agent comes near a landmark.", "Reward getting closer to the landmarks.")
CRITIC_SAYS = (
    error(429, "slow down", retry_after="0"),
    text("Nobody scores: the agents idle far away from every landmark."),
    calls(
        [("a", "query_metrics", '{"names": ["entropy", "evaluation_progress"]}'), ("b", "summarize_trajectories", "{}")]
    ),
    diagnoses(*FIRST, "E1", "E7"),  # refused: there is no E7
    diagnoses(*FIRST, "E1", "E2"),
    looks("evaluation_progress"),
    diagnoses("emerging", "Two agents share a landmark.", "Crowding is what is left.", "E3"),
    looks("evaluation_progress"),
    diagnoses("emerging", "One landmark stays uncovered.", "Reward the worst covered landmark.", "E4"),
    looks("sparse_return"),  # in the fourth round of talk the session is cut off here
)


class PartsPool(InlinePool):
    """An inline pool in which every shaping plays its part."""

    def __init__(self, store_root: Path) -> None:
        super().__init__(store_root)
        self._parts: dict[str, Part] = {}
        self._left, self._confirmed = iter(PARTS), dict[str, int]()

    def train_segment(self, spec: SegmentSpec, store: SegmentStore) -> SegmentResult:
        """The result of a segment; ``SegmentFailed`` where its part is to die."""
        if spec.shaping.is_none:
            return train(spec, store, gain=PLAIN)
        shaping = spec.shaping.hash()
        if shaping not in self._parts:
            self._parts[shaping] = next(self._left)
            if self._parts[shaping].dies:
                raise SegmentFailed(WORKER_DIED, env_steps=SCREEN_STEPS // 2)
        return train(spec, store, gain=self._gain(spec, shaping, self._parts[shaping]))

    def _gain(self, spec: SegmentSpec, shaping: str, part: Part) -> float:
        if spec.env_steps == SCREEN_STEPS:
            return part.screen
        if spec.env_steps == STAGE_STEPS:
            return part.main
        seed = self._confirmed[shaping] = self._confirmed.get(shaping, -1) + 1
        return part.confirm[seed % CONFIRM_SEEDS]


def steady_clock() -> type[datetime]:
    """A ``datetime`` that moves by 10 milliseconds each time it is asked for the time."""
    ticks = count()

    class SteadyClock(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:
            return datetime(2026, 11, 22, 15, 45, 1, tzinfo=tz) + timedelta(milliseconds=10 * next(ticks))

    return SteadyClock


def settings_in(folder: Path) -> SessionSettings:
    """The recorded session's settings."""
    settings = tiny_settings(
        folder,
        rounds=5,
        deliberation=DeliberationSettings(candidates=3, refinements=1),
        trigger=TriggerSettings(every=1),
        branch_steps=BRANCH_STEPS,
        approve="human",
    )
    return settings.model_copy(
        update={
            "agents": settings.agents | {"critic": CRITIC},
            "agent_sources": settings.agent_sources | {"critic": "command line"},
        }
    )


def train_first_stage(settings: SessionSettings) -> None:
    """Leave the first stage in the store, as an earlier session with the same seed does."""
    seed = derive(settings.seed, "stage", 0)
    run = evaluated_for(settings.run, "main", seed)
    spec = SegmentSpec(run=run, parent=None, shaping=ShapingConfig.none(), env_steps=STAGE_STEPS, seed=seed)
    train(spec, SegmentStore(settings.store.resolve()), gain=PLAIN)


def record(folder: Path) -> Path:
    """Run the session in ``folder``; the ledger as a kill in the Critic's last tool call would leave it."""
    settings, cut_off = settings_in(folder), folder / "cut-off.db"
    stopped, cut, calls_begun = SessionControl(), SessionControl(), count(1)

    def watch(row: Mapping[str, Any]) -> None:
        """In the last round: stop in the first call, by which code reads; cut off in the Critic's own after that."""
        if (row["kind"], row["status"], row["round"]) != ("tool_call", "pending", settings.rounds):
            return
        match next(calls_begun):
            case 1:
                stopped.abort()
            case 4:
                with closing(sqlite3.connect(settings.ledger)) as ledger, closing(sqlite3.connect(cut_off)) as copy:
                    ledger.backup(copy)
                cut.abort()

    async def session() -> None:
        async with serving(*CRITIC_SAYS) as server:
            with mock.patch.dict(os.environ, OPENAI_BASE_URL=server.address, OPENAI_API_KEY="a-key-of-no-server"):
                observer = Recorder(on_event=watch, answer=HumanAnswer(approved=True, reason="worth a try"))
                pool = PartsPool(settings.store.resolve())
                await run_session(settings, observer=observer, control=stopped, executor=pool)
                await resume_session(settings.ledger, RECORDED_ID, observer=observer, control=cut, executor=pool)

    with (
        mock.patch("learning_signal.ledger.write.clock.datetime", steady_clock()),
        mock.patch("learning_signal.ledger.write.sessions.new_session_id", lambda: RECORDED_ID),
        mock.patch("socket.gethostname", lambda: "recording"),
        mock.patch("os.fsync", lambda descriptor: None),
        mock.patch.dict(os.environ, LEARNING_SIGNAL_STATE=str(folder / "state")),
    ):
        train_first_stage(settings)
        asyncio.run(session())
    return cut_off


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="recording-") as place:
        STORED.write_bytes(lzma.compress(record(Path(place)).read_bytes()))
