"""Pages follow a log as it is written, over a real connection, and a question is answered from one of them."""

from __future__ import annotations

import asyncio
import http.client
import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest

from learning_signal.ledger import origin
from learning_signal.ledger.questions import open_question
from learning_signal.ledger.read.reader import Reader
from learning_signal.ledger.write.writer import Ledger
from learning_signal.viewer.web import stream
from learning_signal.viewer.web.looks import event_html
from learning_signal.viewer.web.stream import list_changes, session_changes
from tests.support.ledger_helpers import begin
from tests.support.places import ROOT
from tests.support.session_helpers import Recorder, run_inline, tiny_settings

NO_FILTERS: dict[str, Any] = dict.fromkeys(("agent", "round", "kind", "status", "text"))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "PACE", 0.01)


@contextmanager
def served(ledger: Path, *options: str) -> Iterator[tuple[str, str]]:
    """The command ``view``: the host and port it listens on, and its token; it ends as by Ctrl-C."""
    command = [sys.executable, str(ROOT / "run.py"), "view", "--port", "0", "--ledger", str(ledger), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            address = urlsplit(process.stdout.readline().strip())
            yield address.netloc, address.query.removeprefix("token=")
        finally:
            process.send_signal(signal.SIGINT)
    assert process.returncode == 130, process.stderr and process.stderr.read()


def parsed(sent: bytes) -> tuple[str, Any]:
    """The kind and the data of a server-sent event."""
    lines = sent.decode().strip().splitlines()
    named = dict(line.split(": ", 1) for line in lines)
    return named["event"], json.loads(named["data"])


async def taken(messages: Any, wanted: str) -> list[tuple[str, Any]]:
    """The messages up to the first of a kind."""
    found = []
    async for each in messages:
        found.append(parsed(each))
        if found[-1][0] == wanted:
            return found
    raise AssertionError(f"ended without {wanted}: {found}")


def test_a_stream_tells_every_event_once_what_else_changed_and_the_end(tmp_path: Path) -> None:
    with Ledger.open(tmp_path / "ledger.db") as ledger:
        session = begin(ledger)
        ledger.event(session, "session", "it begins")

        async def follow() -> list[tuple[str, Any]]:
            messages = session_changes(ledger.path, session, 0, NO_FILTERS, event_html)
            found = await taken(messages, "events")
            ledger.event(session, "stage", "the <first> stage")
            found += await taken(messages, "events")
            ledger.event(session, "stage", "the second stage")
            found += await taken(messages, "events")
            ledger.end_session(session, "done")
            found += await taken(messages, "ended")
            return found

        found = asyncio.run(asyncio.wait_for(follow(), 20))
    told = "".join(data for kind, data in found if kind == "events")
    with Reader.open(ledger.path) as reader:
        events = [each.seq for each in reader.events()]
    assert [int(each) for each in re.findall(r'id="e(\d+)"', told)] == events
    assert "the &lt;first&gt; stage" in told and ("changed", "done") in found


def test_filters_hold_for_what_comes(tmp_path: Path) -> None:
    with Ledger.open(tmp_path / "ledger.db") as ledger:
        session = begin(ledger)
        ledger.event(session, "session", "it begins")

        async def follow() -> list[tuple[str, Any]]:
            messages = session_changes(ledger.path, session, 0, NO_FILTERS | {"kind": "stage"}, event_html)
            found = await taken(messages, "events")
            ledger.event(session, "note", "not this")
            found += await taken(messages, "events")
            ledger.event(session, "stage", "but this")
            return found + await taken(messages, "events")

        found = asyncio.run(asyncio.wait_for(follow(), 20))
    told = "".join(data for kind, data in found if kind == "events")
    assert "but this" in told and "not this" not in told and told.count("<details") == 1


def test_the_list_tells_of_a_new_session_and_of_a_log_that_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with Ledger.open(path) as ledger:
        begin(ledger)

        async def follow() -> list[tuple[str, Any]]:
            messages = list_changes(path, 50)
            first = asyncio.ensure_future(anext(messages))
            await asyncio.sleep(0.2)
            away = path.rename(tmp_path / "away.db")
            await asyncio.sleep(0.1)
            assert not first.done(), "nothing changed, and a log that is gone for a moment is no change"
            away.rename(path)
            begin(ledger)
            return [parsed(await first)]

        assert asyncio.run(asyncio.wait_for(follow(), 20)) == [("changed", "")]


def test_a_question_is_answered_from_a_page_that_saw_it_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(origin.STATE_VARIABLE, str(tmp_path / "state"))
    settings = tiny_settings(tmp_path, approve="human")
    seen: dict[str, Any] = {}

    class Elsewhere(Recorder):
        def ask_human(self, question: Any) -> Any:
            with served(settings.ledger, "latest") as (host, token), closing(http.client.HTTPConnection(host)) as asked:
                asked.request("GET", f"/session/{question.session}", headers={"cookie": "none"})
                page = asked.getresponse().read().decode()
                seen["page"] = page
                form = urlencode({"question": question.id, "reason": "it passed"})
                for name, headers in (("refused", {}), ("sent", {"authorization": f"Bearer {token}"})):
                    asked.request("POST", f"/session/{question.session}/approve", form, headers)
                    answer = asked.getresponse()
                    seen[name] = (answer.status, answer.read().decode())

    assert len(run_inline(settings, Elsewhere()).promoted) == 1
    assert "waits for an answer: promote c1?" in seen["page"] and "This page only reads" in seen["page"]
    assert seen["refused"][0] == 403 and seen["sent"][0] == 200, seen
    with Reader.open(settings.ledger) as reader:
        (approval,) = reader.events(kind="approval")
        assert open_question(reader.rows, approval.session_id) is None
    assert "through the live page" in approval.title and approval.title.endswith("it passed")


def test_a_lost_connection_goes_on_behind_the_last_event(tmp_path: Path) -> None:
    with Ledger.open(tmp_path / "ledger.db") as ledger:
        session = begin(ledger)
        for number in range(5):
            ledger.event(session, "stage", f"stage {number}")
        with served(ledger.path) as (host, _), closing(http.client.HTTPConnection(host, timeout=20)) as asked:
            with Reader.open(ledger.path) as reader:
                third = reader.events()[2].seq
            asked.request("GET", f"/session/{session}/changes?after=0", headers={"Last-Event-ID": str(third)})
            answer = asked.getresponse()
            assert answer.getheader("content-type", "").startswith("text/event-stream")
            told = b""
            while b"stage 4" not in told:
                told += answer.readline()
    assert b"stage 3" in told and b"stage 2" not in told


def test_the_command_loads_no_training_and_other_commands_no_server() -> None:
    code = "import sys, learning_signal.run; sys.exit('starlette' in sys.modules or 'uvicorn' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
    code = "import sys, learning_signal.viewer.web.site; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
