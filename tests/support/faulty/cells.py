"""A cell of the table: one fault, one protocol, one phase - played in a session over HTTP, and judged.

A session is prepared once, by rules, and stopped before each of its phases. A cell goes on from there with one agent
behind a faulty server that would otherwise answer as the rules did. Waits take no time (``ImpatientLoop``), so the
limits are those of real sessions.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import re
import shutil
import socket
import tempfile
import warnings
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, get_args

from loguru import logger

from learning_signal.agents.session.observer import SessionControl
from learning_signal.agents.session.session import resume_session, run_session
from learning_signal.ledger.read.decision.explain import explain
from learning_signal.ledger.read.reader import Reader
from learning_signal.ledger.read.verify import verify
from learning_signal.marl.gate.recompute import recompute
from learning_signal.tools.plan.settings import session_rules
from learning_signal.tools.roles import Role
from learning_signal.viewer.cli.terminal import SafeConsole
from learning_signal.viewer.live.view import PlainView
from learning_signal.viewer.reports.explain import render_decision
from learning_signal.viewer.reports.next_steps import after_session
from learning_signal.viewer.reports.session_end import render_report
from learning_signal.viewer.transcript.story import render_events
from tests.support.faulty.fault import Fault, Turn
from tests.support.faulty.protocols import PROTOCOLS, Called, Protocol, Said
from tests.support.faulty.table import FAULTS
from tests.support.scripted_server import Reply, Request, serving
from tests.support.session_helpers import Recorder, tiny_settings
from tests.support.synthetic_training import InlinePool
from tests.support.virtual_time import ImpatientLoop

PHASES: tuple[Role, ...] = get_args(Role)
KEY = "sk-canary-7qX9wZ3vK5mB1nR8"
DEADLINE = 180.0
"""Seconds that an answer may take, attempts and waits together: the default of a session."""
LONGEST = 700
"""Characters of the sentence that a session pauses with."""
_HIDDEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


@dataclass(frozen=True)
class Cell:
    """One fault under one protocol in one phase."""

    fault: Fault
    protocol: Protocol
    phase: Role

    def __reduce__(self) -> tuple[Any, ...]:  # another process has the same table, and functions do not travel
        return _cell, (self.fault.name, self.protocol.name, self.phase)

    @property
    def name(self) -> str:
        return f"{self.fault.name} | {self.protocol.name} | {self.phase}"


@dataclass
class Ending:
    """What came of a cell."""

    status: str = "failed"
    sentence: str = ""
    """Why it paused."""
    seconds: float = 0.0
    """How long it took, by the session's clock."""
    requests: int = 0
    complaints: list[str] = field(default_factory=list)
    """What a strict server refuses in the session's requests."""
    elsewhere: int = 0
    """Requests that another server got."""
    left_behind: bytes = b""
    """Every byte that it wrote or said."""
    shown: str = ""
    """What a terminal showed."""
    unhandled: list[str] = field(default_factory=list)
    """Exceptions and errors that nobody handled."""
    gave_up: bool = False
    """Whether the agent's phase ended without it."""
    promoted_unproven: bool = False
    sound: bool = False
    """Whether every hash and statistic of the log is as computed anew."""


def _cell(fault: str, protocol: str, phase: Role) -> Cell:
    """The cell of these names."""
    named = {each.name: each for each in (*FAULTS, *PROTOCOLS)}
    return Cell(named[fault], named[protocol], phase)


def cells() -> list[Cell]:
    """Every cell, fault by fault."""
    return [
        Cell(fault, protocol, phase)
        for fault in FAULTS
        for protocol in PROTOCOLS
        if protocol.name in fault.protocols
        for phase in PHASES
    ]


def chosen() -> list[Cell]:
    """One cell of each fault and protocol, the phases in turn."""
    turns = (
        Cell(fault, one, PHASES[(n // 3 + k) % 4]) for n, fault in enumerate(FAULTS) for k, one in enumerate(PROTOCOLS)
    )
    return [cell for cell in turns if cell.protocol.name in cell.fault.protocols]


def problems(cell: Cell, ending: Ending) -> list[str]:
    """What of an ending is not as it must be; empty where the cell holds."""
    pauses = cell.fault.end_of(cell.protocol.name) == "pauses"
    sentence = ending.sentence
    checks = {
        f"the session is {ending.status}: {sentence[:200]}": ending.status == ("paused" if pauses else "done"),
        "the agent's phase ended without it": not ending.gave_up or pauses,
        f"the sentence is {sentence!r}": not pauses or _clear(sentence),
        f"the sentence lacks {cell.fault.says!r}: {sentence[:200]}": not pauses or cell.fault.says in sentence,
        f"it took {ending.seconds:.0f} s": ending.seconds <= _longest(cell, ending),
        f"unhandled: {ending.unhandled[:1]}": not ending.unhandled,
        f"a strict server complains: {ending.complaints[:1]}": not ending.complaints,
        "the key was left behind": KEY.encode() not in ending.left_behind,
        f"another server got {ending.elsewhere} requests": ending.elsewhere == 0,
        "control characters were shown": not _HIDDEN.search(ending.shown),
        "it was promoted without a passing verdict": not ending.promoted_unproven,
        "the log is not sound": ending.sound,
    }
    return [words for words, holds in checks.items() if not holds]


def _clear(sentence: str) -> bool:
    """Whether it is one clear sentence about the backend."""
    return bool(re.match(r"^Backend '\S+' .*\.$", sentence)) and len(sentence) <= LONGEST and "\n" not in sentence


def _longest(cell: Cell, ending: Ending) -> float:
    """Seconds that a cell may take: each answer has its deadline."""
    answers = 1 if cell.fault.times is not None else max(ending.requests, 1)
    return answers * DEADLINE + 1.0


def play(cell: Cell) -> Ending:
    """Play a cell in a folder of its own, to the end of its session."""
    before = prepared()
    with tempfile.TemporaryDirectory(dir=before.folder) as name, asyncio.Runner(loop_factory=ImpatientLoop) as runner:
        folder = Path(name)
        shutil.copy(before.ledgers[cell.phase], folder / "ledger.db")
        ending, said = Ending(), io.StringIO()
        runner.get_loop().set_exception_handler(lambda loop, context: ending.unhandled.append(str(context)))
        sink = logger.add(said, level="TRACE", diagnose=False)
        try:
            with warnings.catch_warnings(record=True) as warned:
                runner.run(_played(cell, folder, ending, before))
            ending.unhandled += [str(each.message) for each in warned]
        except Exception as error:  # noqa: BLE001 - a traceback is what the table looks for
            ending.unhandled.append(f"{type(error).__name__}: {error}")
        finally:
            logger.remove(sink)
        ending.shown += said.getvalue()
        files = b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())
        ending.left_behind = files + ending.shown.encode() + ending.sentence.encode()
        return ending


async def _played(cell: Cell, folder: Path, ending: Ending, before: Prepared) -> None:
    ledger, loop = folder / "ledger.db", asyncio.get_running_loop()
    screen = io.StringIO()
    console = SafeConsole(file=screen, width=100)
    async with _server(cell, ending, before.replies[cell.phase]) as address:
        spec = cell.protocol.spec.format(address=address) + cell.fault.parameters
        pool, view = InlinePool(before.folder / "segments"), PlainView(console, "a cell", ledger)
        started = loop.time()
        outcome = await resume_session(ledger, "latest", observer=view, executor=pool, agents={cell.phase: spec})
        ending.seconds = loop.time() - started
        view.stop()
    ending.status, ending.sentence = outcome.status, outcome.stop_reason or ""
    console.print(render_report(asdict(outcome), after_session(asdict(outcome), ledger)))
    with Reader.open(ledger) as reader:
        events = [each for each in reader.events() if each.seq > before.events[cell.phase]]
        own = [each for each in events if each.agent == cell.phase]
        console.print(render_events(reader.session("latest"), list(reader.entries(own))))
        decisions = reader.decisions()
        if decisions:
            console.print(render_decision(explain(reader)))
        passed = {each.candidate_id for each in reader.verdicts() if each.outcome == "pass"}
        ending.promoted_unproven = any(
            each.action == "promote" and each.candidate_id not in passed for each in decisions
        )
        ending.gave_up = any(each.kind == "error" for each in own)
        ending.sound = verify(reader, recompute, session_rules) == []
    ending.shown = screen.getvalue()


@asynccontextmanager
async def _server(cell: Cell, ending: Ending, replies: list[Said]) -> AsyncIterator[str]:
    """The root of a server that has the cell's fault."""
    fault, waiting = cell.fault, list(replies)
    met = 0

    def answer(request: Request) -> Reply:
        nonlocal met
        ending.requests += 1
        if complaint := cell.protocol.complaint(request.body):
            ending.complaints.append(complaint)
        good = waiting[0] if waiting else Said("Yes.")
        turn = Turn(cell.protocol, good, request, elsewhere)
        if fault.times is None or met < fault.times:
            met += 1
            reply, said = fault.does(turn), fault.meant
        else:
            reply, said = turn.whole(), True
        if waiting and said and reply.status == 200:
            waiting.pop(0)
        return reply

    async with serving(Reply(200, {})) as other, serving(answer) as server:
        elsewhere = other.address.removesuffix("/v1")
        root = server.address.removesuffix("/v1")
        yield {"server": root, "nobody": f"http://127.0.0.1:{_free_port()}", "https": root.replace("http", "https")}[
            fault.at
        ]
        ending.elsewhere = len(other.requests)


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@dataclass(frozen=True)
class Prepared:
    """A session that stands before each of its phases, and what the rules answered in them."""

    folder: Path
    ledgers: Mapping[Role, Path]
    events: Mapping[Role, int]
    """The number of the last event in each."""
    replies: Mapping[Role, list[Said]]


@cache
def prepared() -> Prepared:
    """The session that all cells go on from; its folder lasts as long as the process."""
    keep = tempfile.TemporaryDirectory(prefix="faults-")
    _KEPT.append(keep)
    folder = Path(keep.name)
    os.environ.setdefault("LEARNING_SIGNAL_STATE", str(folder / "state"))
    os.environ["FAULTY_API_KEY"] = KEY
    settings, ledgers, events = tiny_settings(folder), {}, {}

    async def until(phase: Role | None) -> None:
        control = SessionControl()
        watcher = Recorder()
        watcher.stage = lambda info: control.request_pause() if info["phase"] == phase else None
        pool = InlinePool(settings.store)
        if settings.ledger.exists():
            await resume_session(settings.ledger, "latest", observer=watcher, control=control, executor=pool)
        else:
            await run_session(settings, observer=watcher, control=control, executor=pool)

    for phase in PHASES:
        asyncio.run(until(phase))
        ledgers[phase] = Path(shutil.copy(settings.ledger, folder / f"{phase}.db"))
        with Reader.open(ledgers[phase]) as reader:
            events[phase] = reader.events()[-1].seq
    asyncio.run(until(None))
    with Reader.open(settings.ledger) as reader:
        replies = {phase: _replies(reader, phase) for phase in PHASES}
    return Prepared(folder, ledgers, events, replies)


def _replies(reader: Reader, phase: Role) -> list[Said]:
    """What an agent answered, in order."""
    rows = reader.rows("SELECT reply FROM llm_calls WHERE agent = ? AND status = 'ok' ORDER BY id", (phase,))
    return [_said(reader.json(row["reply"])["content"]) for row in rows]


def _said(content: Any) -> Said:
    if isinstance(content, str):
        return Said(content)
    made = [Called(each["name"], json.loads(each["arguments"]), f"call_{n}") for n, each in enumerate(content)]
    return Said(calls=tuple(made))


_KEPT: list[tempfile.TemporaryDirectory[str]] = []
