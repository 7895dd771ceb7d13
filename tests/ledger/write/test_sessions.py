"""A session's row: it begins, is resumed by one process at a time, and ends; its wall time is summed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable

import pytest

from learning_signal.ledger.errors import LedgerError, SessionTaken
from learning_signal.ledger.liveness import process_lives
from learning_signal.ledger.write.writer import Ledger
from tests.support.ledger_helpers import begin, seconds_ago
from tests.support.places import ROOT
from tests.support.recorded_ledger import RECORDED_ID


def test_a_session_that_is_done_stays_done(ledger: Ledger, session: str) -> None:
    with pytest.raises(LedgerError, match="may be set later"):
        ledger.complete("sessions", session, seed=5)
    ledger.end_session(session, "paused", "Ctrl-C")
    ledger.resume_session(session, "0")
    assert ledger.row("sessions", session)["stop_reason"] is None
    ledger.end_session(session, "done")
    with pytest.raises(LedgerError, match="this session is done"):
        ledger.heartbeat(session)
    with pytest.raises(LedgerError, match=f"{session} is done: read it with 'log show {session}'"):
        ledger.resume_session(session, "0")


def test_wall_time_is_summed_over_interruptions(ledger: Ledger, session: str, monkeypatch: pytest.MonkeyPatch) -> None:
    at = [1000.0]
    monkeypatch.setattr("learning_signal.ledger.write.clock.time.monotonic", lambda: at[0])
    ledger.resume_session(session, "0")
    at[0] += 10
    ledger.heartbeat(session)
    at[0] += 500  # killed: what came after the heartbeat is not counted
    ledger.resume_session(session, "0")
    at[0] += 5
    ledger.end_session(session, "done")
    assert ledger.row("sessions", session)["wall_seconds"] == pytest.approx(15.0)
    with pytest.raises(LedgerError, match="no session nobody"):
        ledger.resume_session("nobody", "0")


def test_interrupt_pending_leaves_segments_to_be_computed_again(written: Ledger) -> None:
    session = RECORDED_ID
    written.add("segments", session_id=session, id="late", shaping={}, seed=0, env_steps=1, status="pending")
    assert written.interrupt_pending(session) == 2  # the tool call that was cut off, and its event
    assert written.interrupt_pending(session) == 0
    assert written.has("tool_calls", session_id=session, status="interrupted")
    assert written.row("segments", (session, "late"))["status"] == "pending"


def test_a_resume_marks_what_was_left_pending_in_its_own_transaction(written: Ledger) -> None:
    labels: list[str] = []
    written.on_commit = lambda label, rows: labels.append(label)
    written.resume_session(RECORDED_ID, written.required_row("sessions", RECORDED_ID)["code_version"])
    assert labels == ["resume session"]
    assert written.has("tool_calls", session_id=RECORDED_ID, status="interrupted")
    assert written.interrupt_pending(RECORDED_ID) == 0


@pytest.mark.parametrize(
    ("host", "heartbeat", "refused"), [(None, 0, True), ("another-host", 50, True), ("another-host", 70, False)]
)
def test_a_session_whose_process_lives_is_not_resumed(
    ledger: Ledger, session: str, host: str | None, heartbeat: float, refused: bool
) -> None:
    row = {"pid": os.getppid(), "heartbeat_at": seconds_ago(heartbeat)} | ({"host": host} if host else {})
    ledger.complete("sessions", session, **row)
    with Ledger.open(ledger.path) as other:
        before = other.row("sessions", session)
        if refused:
            message = f"Session {session} is being run by process {os.getppid()}: wait for it or stop it"
            with pytest.raises(LedgerError, match=message):
                other.resume_session(session, "0")
            assert other.row("sessions", session) == before
        else:
            other.resume_session(session, "0")
            assert other.row("sessions", session)["pid"] == os.getpid()
        # negative control: the same session, had it said that it stopped
        ledger.complete("sessions", session, status="paused") if refused else None
        other.resume_session(session, "0")


_BEGINS_AND_WAITS = """
import sys
from learning_signal.ledger.write.writer import Ledger
opened = Ledger.open(sys.argv[1])
session = opened.begin_session(task="spread", algorithm="mappo", seed=0, config={}, code_version="0")
sys.stdout.write(f"{session}\\n")
sys.stdout.flush()
sys.stdin.read()
"""


@pytest.mark.skipif(os.name != "posix", reason="needs SIGSTOP")
def test_a_stopped_process_is_silent_but_there(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    command = [sys.executable, "-c", _BEGINS_AND_WAITS, str(ledger.path)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as running:
        session = running.stdout.readline().strip()
        running.send_signal(signal.SIGSTOP)
        monkeypatch.setattr("learning_signal.ledger.liveness.SILENT_SECONDS", 0.0)  # every heartbeat is too old
        with pytest.raises(LedgerError, match=f"is being run by process {running.pid}: wait for it"):
            ledger.resume_session(session, "0")
        running.kill()
        running.wait()
        ledger.resume_session(session, "0")  # negative control: now it is gone


def test_sessions_that_cannot_be_resumed_are_left_as_they_are(ledger: Ledger, session: str) -> None:
    ledger.end_session(session, "paused", "Ctrl-C")
    before = ledger.row("sessions", session)
    with pytest.raises(LedgerError, match="trained by code version 0, this is 1: .* start a new session"):
        ledger.resume_session(session, "1")
    assert ledger.row("sessions", session) == before
    ledger.resume_session(session, "0")


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc")
def test_a_process_that_is_dead_or_has_inherited_the_number_is_not_the_one() -> None:
    here = socket.gethostname()
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    assert process_lives(here, child.pid, seconds_ago(0))
    assert not process_lives(here, child.pid, seconds_ago(60))  # it began after the heartbeat
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # a zombie: its number is still taken
    assert not process_lives(here, child.pid, seconds_ago(0))
    child.communicate()
    assert not process_lives(here, child.pid, seconds_ago(0))


def _decide(ledger: Ledger, session: str) -> None:
    seq = ledger.event(session, "decision", "keep")
    ledger.add_decision(
        session,
        id=f"{session}/R9",
        round=9,
        event_seq=seq,
        action="keep",
        segment_from="s",
        segment_to="s",
        shaping_from={},
        shaping_to={},
        decided_by="code",
        reason="no verdict",
    )


WRITES: dict[str, Callable[[Ledger, str], object]] = {
    "cursor": lambda ledger, session: ledger.save_cursor(session, {"step": 2}),
    "heartbeat": lambda ledger, session: ledger.heartbeat(session),
    "decision": _decide,
    "session": lambda ledger, session: ledger.complete("sessions", session, code_version="0"),
    "event": lambda ledger, session: ledger.event(session, "message", "late"),
    "pending": lambda ledger, session: ledger.interrupt_pending(session),
    "body": lambda ledger, session: ledger.body("a late text"),
    "end": lambda ledger, session: ledger.end_session(session, "failed", "late"),
}


@pytest.mark.parametrize("name", WRITES)
def test_a_session_that_was_taken_over_takes_no_write(ledger: Ledger, session: str, name: str) -> None:
    def everything() -> list[list[dict]]:
        return [ledger.rows(f"SELECT * FROM {table}") for table in sorted(ledger._columns)]

    with Ledger.open(ledger.path) as untouched:
        other = begin(untouched)
        WRITES[name](untouched, other)  # negative control: nobody took this one over
    with Ledger.open(ledger.path) as taker:
        taker.save_cursor(session, {"step": 1})
        taker.resume_session(session, "0")
        before = everything()
        sentence = f"Session {session} was taken over by process {os.getpid()} on .*; this process stops"
        with pytest.raises(SessionTaken, match=sentence):
            WRITES[name](ledger, session)
        with pytest.raises(SessionTaken), ledger.transaction("step"):
            raise AssertionError("never reached")
        assert everything() == before
        WRITES[name](taker, session)


def test_a_resume_or_begin_that_is_undone_leaves_the_ledger_as_before(ledger: Ledger, session: str) -> None:
    with pytest.raises(RuntimeError), ledger.transaction("resume"):
        ledger.resume_session(session, "0")
        begin(ledger, id="20261123-101010-nvr")
        raise RuntimeError("the disk is full")
    with ledger.transaction("outer"):
        with pytest.raises(RuntimeError), ledger.transaction("inner"):
            ledger.resume_session(session, "0")
            raise RuntimeError("caught")
        ledger.event(session, "message", "goes on")
    ledger.heartbeat(session)


_RESUMES_WHEN_TOLD = """
import sys
import learning_signal.ledger.write.sessions
from learning_signal.ledger.errors import LedgerError
from learning_signal.ledger.write.writer import Ledger
if sys.argv[2] == "careless":
    learning_signal.ledger.write.sessions.process_lives = lambda *row: False
opened = Ledger.open(sys.argv[1])
for line in sys.stdin:
    word, session = line.split()
    try:
        opened.resume_session(session, "0") if word == "resume" else opened.save_cursor(session, {})
        sys.stdout.write("won\\n")
    except LedgerError as error:
        sys.stdout.write(f"{error}\\n")
    sys.stdout.flush()
"""


def _both_answer(processes: list[subprocess.Popen], order: str) -> list[str]:
    for process in processes:
        process.stdin.write(order + "\n")
        process.stdin.flush()
    return [process.stdout.readline().strip() for process in processes]


@pytest.mark.skipif(os.name != "posix", reason="asks the kernel for processes")
@pytest.mark.parametrize("care", ["careful", "careless"])
def test_of_two_processes_that_resume_at_once_one_wins(ledger: Ledger, care: str) -> None:
    rounds = [begin(ledger, id=f"20261123-101010-a{number:02d}") for number in range(10 if care == "careful" else 1)]
    for session in rounds:
        ledger.end_session(session, "paused", "Ctrl-C")
    command = [sys.executable, "-c", _RESUMES_WHEN_TOLD, str(ledger.path), care]
    processes = [
        subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    try:
        _both_answer(processes, "resume nobody")  # both are up
        for session in rounds:
            answers = _both_answer(processes, f"resume {session}")
            if care == "careless":  # negative control: without the question who lives both win, and ...
                assert answers == ["won", "won"]
                kept = _both_answer(processes, f"save {session}")  # ... the first is told at its next write
                assert sorted(answer[:4] for answer in kept) == ["Sess", "won"]
                assert any("was taken over by process" in answer for answer in kept)
                return
            winner = processes[answers.index("won")]
            (refusal,) = [answer for answer in answers if answer != "won"]
            assert f"is being run by process {winner.pid}: wait for it" in refusal
            assert ledger._db.execute("SELECT pid FROM sessions WHERE id = ?", (session,)).fetchone() == (winner.pid,)
    finally:
        for process in processes:
            process.communicate()
