"""A session that was killed, paused or stopped anywhere goes on and ends as if nothing had happened."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

import learning_signal.tools.lifecycle
from learning_signal.agents.session import session as session_entries
from learning_signal.agents.session.session import SessionControl, run_session
from learning_signal.ledger.errors import LedgerError
from learning_signal.ledger.read.reader import Reader
from learning_signal.ledger.read.verify import verify
from learning_signal.ledger.write.writer import Ledger
from learning_signal.marl.gate.recompute import recompute
from learning_signal.marl.segments.version import libraries
from learning_signal.tools.context import HumanAnswer
from learning_signal.tools.plan.settings import session_rules
from tests.support.killed_session import outermost
from tests.support.places import ROOT
from tests.support.session_helpers import Recorder, story, synthetic_workers, tiny_settings
from tests.support.session_helpers import resume_inline as resume
from tests.support.session_helpers import run_inline as run
from tests.support.synthetic_training import InlinePool

DEFAULT_KINDS = (("tool call ok", "before"), ("segment-end", "before"), ("step", "after"))
"""Kinds of commits that are tried in the default suite; the slow test tries every kind there is."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The story of the session nobody interrupts, and how often each kind of commit happens in it."""
    folder, labels = tmp_path_factory.mktemp("whole"), Counter()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Ledger, "transaction", outermost(lambda label: labels.update([label])))
        outcome = run(tiny_settings(folder))
    assert outcome.status == "done" and outcome.promoted and outcome.rejected
    return story(folder / "ledger.db"), labels


def killed(folder: Path, *cases: tuple[str, int, str], workers: bool = False) -> list[Path]:
    """One session per case, each killed there; their folders."""
    folders = [folder / f"{index}" for index in range(len(cases))]
    plan = [
        {"folder": str(each), "label": label, "nth": nth, "when": when, "workers": workers}
        for each, (label, nth, when) in zip(folders, cases, strict=True)
    ]
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "support" / "killed_session.py"), json.dumps(plan)],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    died = dict(zip(cases, json.loads(done.stdout.splitlines()[-1]), strict=True))
    assert all(each == signal.SIGKILL for each in died.values()), died
    return folders


def same_as(whole, ledger: Path) -> None:
    """The session in ``ledger`` tells the same story as the uninterrupted one, and its ledger is sound."""
    resumed, expected = story(ledger), whole[0]
    for part, value in expected.items():
        assert resumed[part] == value, part
    with Reader.open(ledger) as reader:
        assert verify(reader, recompute, session_rules) == []
        assert reader.rows("SELECT * FROM events WHERE status = 'pending'") == []
        assert reader.rows("SELECT call_id FROM tool_calls WHERE status = 'ok' GROUP BY 1 HAVING count(*) > 1") == []


def kinds(labels: Counter) -> list[str]:
    """The kinds of commits a session can be killed at and be there afterwards."""
    return [label for label, count in labels.items() if count and label != "session-start"]


def test_killed_at_a_commit_and_resumed(whole, tmp_path):
    cases = [(kind, -(-whole[1][kind] // 2), when) for kind, when in DEFAULT_KINDS]
    for folder in killed(tmp_path, *cases):
        assert resume(tiny_settings(folder)).status == "done"
        same_as(whole, folder / "ledger.db")


def test_killed_while_head_is_looked_at_and_resumed(whole, tmp_path):
    """A branch that HEAD moved to has its report episodes played then: once, and whatever kills it."""
    starts, ends = (whole[1][f"segment-{name}"] for name in ("start", "end"))  # the last segment is a stage
    for folder in killed(tmp_path, ("segment-start", starts - 1, "after"), ("segment-end", ends - 1, "before")):
        with Reader.open(folder / "ledger.db") as reader:
            assert [move.reason for move in reader.main_run()][-1] in ("promote", "keep"), "HEAD is a branch's end"
        assert resume(tiny_settings(folder)).status == "done"
        same_as(whole, folder / "ledger.db")
        with Reader.open(folder / "ledger.db") as reader:
            late = [each for each in reader.segments().values() if not each.env_steps]
            (report,) = (each for each in late if each.purpose == "main")
            sets = {each.episode_set for each in reader.evaluations("latest", report.parent)}
            assert sets == {"confirm", "query", "report"}, "the query episodes were looked at before"
            assert {each.status for each in late} == {"ok"} and reader.costs().cut_off_unknown == 0


def test_killed_while_code_reads_for_the_critic_and_resumed(whole, tmp_path):
    """None of its calls is repeated or lost, and the Critic is told the same."""
    cases = [("tool call ok", 1, "after"), ("tool call ok", 2, "before"), ("read for the Critic", 1, "before")]
    for folder in killed(tmp_path, *cases):
        assert resume(tiny_settings(folder)).status == "done"
        same_as(whole, folder / "ledger.db")
        with Reader.open(folder / "ledger.db") as reader:
            calls = reader.rows(
                "SELECT name, evidence_id FROM tool_calls WHERE round = 1 AND agent = 'critic' ORDER BY id"
            )
            brief = reader.rows(
                "SELECT body FROM messages WHERE target = 'critic' AND type = 'task' ORDER BY id LIMIT 1"
            )
            text = reader.body(brief[0]["body"])
        read = json.loads(text.partition("\n")[2])["read_for_you"]
        assert [each["result"]["evidence"] for each in read] == ["E1", "E2"]
        names = [each["name"] for each in calls if each["evidence_id"] in ("E1", "E2")]
        assert names == [each["call"] for each in read] == ["query_metrics", "summarize_trajectories"]


def test_the_comparison_notices_another_story(whole, tmp_path):
    """Negative control of ``same_as``: a session of another seed is not the same."""
    run(tiny_settings(tmp_path, seed=1))
    with pytest.raises(AssertionError):
        same_as(whole, tmp_path / "ledger.db")


@pytest.mark.slow
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("place", ["first", "middle", "last"])
def test_killed_at_every_kind_of_commit_and_resumed(whole, tmp_path, when, place):
    labels = whole[1]
    nth = {"first": lambda n: 1, "middle": lambda n: -(-n // 2), "last": lambda n: n}[place]
    # After the very last commit the session is done, and there is nothing left to resume.
    cases = [(kind, nth(labels[kind]), when) for kind in kinds(labels) if (kind, when) != ("session-end", "after")]
    assert len(cases) >= 10
    if place != "middle":  # of what happens once only, the first and the last are the one in the middle
        cases = [case for case in cases if labels[case[0]] > 1]
        assert len(cases) >= 5
    # What a worker process is in the middle of matters to a third of the kills only: processes take longest to start.
    for folder in killed(tmp_path, *cases, workers=place == "middle"):
        assert resume(tiny_settings(folder)).status == "done"
        same_as(whole, folder / "ledger.db")


@pytest.mark.slow
def test_killed_before_its_first_commit_leaves_an_empty_ledger(tmp_path):
    (folder,) = killed(tmp_path, ("session-start", 1, "before"))
    with pytest.raises(LedgerError, match="no session yet"):
        resume(tiny_settings(folder))


def test_paused_and_resumed_several_times(whole, tmp_path):
    """Each resume but the last takes one step."""
    settings, control = tiny_settings(tmp_path), SessionControl()
    control.request_pause()
    assert run(settings, control=control).status == "paused"
    for _ in range(3):
        control = SessionControl()
        observer = Recorder(on_event=lambda row, control=control: control.request_pause())
        assert resume(settings, observer=observer, control=control).status == "paused"
    assert resume(settings).status == "done"
    same_as(whole, settings.ledger)


def test_the_log_says_which_torch_trains_from_where_on(tmp_path, monkeypatch):
    """Segments of another torch have other ids, so nothing is mixed up silently; a reader is told why."""
    settings, control = tiny_settings(tmp_path), SessionControl()
    control.request_pause()
    assert run(settings, control=control).status == "paused"
    monkeypatch.setattr(session_entries, "libraries", lambda: "torch 99.0, NumPy 9.9")
    assert resume(settings).status == "done"
    with Reader.open(settings.ledger) as reader:
        titles = [event.title for event in reader.events(kind="session")]
    begins, goes_on = (next(title for title in titles if word in title) for word in (" begins; ", " goes on; "))
    assert begins.endswith(libraries()) and libraries().startswith("torch 2") and "NumPy" in libraries()
    assert goes_on.endswith("torch 99.0, NumPy 9.9")


def test_pause_ends_after_the_running_step(whole, tmp_path):
    settings, control = tiny_settings(tmp_path), SessionControl()
    observer = Recorder(on_event=lambda row: row["kind"] == "diagnosis" and control.request_pause())
    outcome = run(settings, observer, control)
    assert (outcome.status, outcome.stop_reason) == ("paused", "Paused on request.")
    assert outcome.final_policy is None
    with Reader.open(settings.ledger) as reader:
        assert reader.cursor()["phase"] == "generator"
        assert reader.session().status == "paused"
    assert resume(settings).status == "done"
    same_as(whole, settings.ledger)


async def aborted(settings, observer, started: threading.Event, abort_at: list[float], pool=InlinePool):
    """A session that is stopped by another thread 0.3 seconds after ``started``; see ``abort_at``."""
    loop, control = asyncio.get_running_loop(), SessionControl()

    def stop() -> None:
        if started.wait(20):
            time.sleep(0.3)
            abort_at.append(time.monotonic())
            loop.call_soon_threadsafe(control.abort)

    threading.Thread(target=stop, daemon=True).start()
    with pool(settings.store) as executor:
        return await run_session(settings, observer=observer, control=control, executor=executor)


@pytest.mark.parametrize(("at", "undecided"), [("verdict", 1), ("decision", 0)])
def test_a_pause_between_verdict_and_decision_counts_no_candidate_twice_or_too_early(tmp_path, at, undecided):
    settings, control = tiny_settings(tmp_path), SessionControl()
    outcome = run(settings, Recorder(on_event=lambda row: row["kind"] == at and control.request_pause()), control)
    assert (len(outcome.promoted), len(outcome.rejected)) == (1 - undecided, 1)


class _FullDisk:
    """Lets ``writes`` completions of rows through and fails the next one, once."""

    def __init__(self, writes: int) -> None:
        self.left, self.original = writes, Ledger.complete

    def complete(self, ledger, *given, **row):
        self.left -= 1
        if self.left == 0:
            raise LedgerError("The disk is full; free some space and resume.")
        self.original(ledger, *given, **row)


@pytest.mark.parametrize("writes", [12, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 30, 48))])
def test_a_ledger_that_cannot_be_written_stops_the_session_which_resumes(whole, tmp_path, monkeypatch, writes):
    settings, disk = tiny_settings(tmp_path), _FullDisk(writes)
    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "complete", lambda ledger, *given, **row: disk.complete(ledger, *given, **row))
        with pytest.raises(LedgerError, match="The disk is full"):
            run(settings)
    with Reader.open(settings.ledger) as reader:
        assert (reader.session().status, "disk is full" in reader.session().stop_reason) == ("failed", True)
    assert resume(settings).status == "done"
    same_as(whole, settings.ledger)


def test_a_missed_heartbeat_stops_nothing(tmp_path, monkeypatch):
    beats = []

    def heartbeat(ledger, session):
        beats.append(session)
        if len(beats) == 1:
            raise LedgerError("The ledger is locked.")

    monkeypatch.setattr(learning_signal.tools.lifecycle, "HEARTBEAT_SECONDS", 0.001)
    monkeypatch.setattr(Ledger, "heartbeat", heartbeat)
    assert run(tiny_settings(tmp_path)).status == "done"
    assert len(beats) > 1


def test_a_cancelled_session_is_interrupted_and_resumes(whole, tmp_path):
    """As where Ctrl-C reaches asyncio itself."""
    settings = tiny_settings(tmp_path)

    async def session():
        running = asyncio.current_task()
        observer = Recorder(on_event=lambda row: row["kind"] == "proposal" and running.cancel())
        return await run_session(settings, observer=observer, executor=InlinePool(settings.store))

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(session())
    with Reader.open(settings.ledger) as reader:
        assert reader.session().status == "interrupted"
    assert resume(settings).status == "done"
    same_as(whole, settings.ledger)


def test_abort_stops_within_two_seconds_in_the_middle_of_a_screen(whole, tmp_path, monkeypatch):
    monkeypatch.setenv("SYNTHETIC_WORLD", "hangs")
    settings, reading, abort_at = tiny_settings(tmp_path), threading.Event(), []

    def on_event(row):
        if row["kind"] == "screen":
            reading.set()

    outcome = asyncio.run(aborted(settings, Recorder(on_event=on_event), reading, abort_at, synthetic_workers))
    assert time.monotonic() - abort_at[0] < 2
    assert outcome.status == "interrupted" and "Stopped" in outcome.stop_reason
    with Reader.open(settings.ledger) as reader:
        assert {segment.status for segment in reader.segments().values()} == {"ok", "pending"}
        assert reader.rows("SELECT * FROM tool_calls WHERE status = 'pending'") == []
    monkeypatch.delenv("SYNTHETIC_WORLD")
    assert resume(settings).status == "done"
    same_as(whole, settings.ledger)


def test_abort_does_not_wait_for_a_person(tmp_path):
    settings, asked, answered, abort_at = (
        tiny_settings(tmp_path, approve="human"),
        threading.Event(),
        threading.Event(),
        [],
    )

    def on_question():
        asked.set()
        answered.wait(20)

    yes = HumanAnswer(approved=True, reason="yes")
    outcome = asyncio.run(aborted(settings, Recorder(on_question=on_question, answer=yes), asked, abort_at))
    taken = time.monotonic() - abort_at[0]
    answered.set()
    assert outcome.status == "interrupted" and taken < 2
    observer = Recorder(answer=yes)
    assert resume(settings, observer=observer).status == "done"
    assert len(observer.questions) == 1


def test_abort_before_the_session_has_started(tmp_path):
    control = SessionControl()
    control.abort()
    assert run(tiny_settings(tmp_path), control=control, pool=synthetic_workers).status == "interrupted"
    assert resume(tiny_settings(tmp_path), pool=synthetic_workers).status == "done"


def test_a_done_session_is_not_resumed(tmp_path):
    settings = tiny_settings(tmp_path)
    assert run(settings).status == "done"
    with pytest.raises(LedgerError, match="is done"):
        resume(settings)


def paused(folder: Path):
    """The settings of a session that was paused at once."""
    settings, control = tiny_settings(folder), SessionControl()
    control.request_pause()
    assert run(settings, control=control).status == "paused"
    return settings


def test_a_running_session_is_not_resumed(tmp_path):
    """The process is alive; one whose heart last beat before it began is another that was given the same number."""
    settings = paused(tmp_path)
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        with Ledger.open(settings.ledger) as ledger:
            (session,) = ledger.find("sessions")
            ledger.resume_session(session["id"], session["code_version"])
            ledger.complete("sessions", session["id"], pid=other.pid)
        with pytest.raises(LedgerError, match=f"being run by process {other.pid}"):
            resume(settings)
        with Ledger.open(settings.ledger) as ledger:
            ledger.complete("sessions", session["id"], heartbeat_at="2026-01-01T00:00:00.000000+00:00")
        assert resume(settings).status == "done"
    finally:
        other.kill()
        other.wait()


def test_another_version_of_the_code_is_refused(tmp_path):
    settings = paused(tmp_path)
    with Ledger.open(settings.ledger) as ledger:
        (session,) = ledger.find("sessions")
        ledger.complete("sessions", session["id"], code_version="0123456789abcdef")
    with pytest.raises(LedgerError, match="code version 0123456789abcdef.*start a new session"):
        resume(settings)
    with Reader.open(settings.ledger) as reader:
        assert reader.session().status == "paused"  # refused without a trace


def test_an_unknown_session_is_refused(tmp_path):
    settings = paused(tmp_path)
    with pytest.raises(LedgerError, match="There is no session 'nosuch'"):
        resume(settings, "nosuch")
