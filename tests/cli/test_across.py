"""``log tail``, ``scan``, ``stats`` and ``diff``: what is found, how it reads, how a running session is followed."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from learning_signal import run as program
from learning_signal.ledger.read.across.parting import parting
from learning_signal.ledger.read.across.scan import SCANNERS, scan
from learning_signal.ledger.read.across.stats import agent_stats
from learning_signal.ledger.read.reader import Reader
from learning_signal.ledger.write.writer import Ledger
from learning_signal.tools.plan.settings import DeliberationSettings
from tests.support.recorded_ledger import RECORDED_ID, recorded_ledger
from tests.support.session_helpers import run_inline, tiny_settings


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return recorded_ledger(tmp_path_factory.mktemp("recorded") / "ledger.db")


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three sessions of one log: two of seed 0, and one of seed 1."""
    folder = tmp_path_factory.mktemp("two")
    alone = DeliberationSettings(candidates=2, refinements=0, earlier=False)  # else the later ones hear of the first
    for seed in (0, 0, 1):
        run_inline(tiny_settings(folder, seed=seed, deliberation=alone))
    return folder / "ledger.db"


def said(capsys: pytest.CaptureFixture[str], ledger: Path, *arguments: str, code: int = 0) -> str:
    capsys.readouterr()
    assert program.run(["log", *arguments, "--ledger", str(ledger)]) == code
    text = capsys.readouterr().out
    assert all(len(line) <= 100 for line in text.splitlines()) or "--json" in arguments
    return text


def test_what_the_scanners_find_is_in_the_events_they_name(recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(said(capsys, recorded, "scan", "--json"))
    assert {each["scanner"] for each in found} <= set(SCANNERS) and found
    with Reader.open(recorded) as reader:
        for each in found:
            event = reader.entry(each["event"]).event
            assert (event.session_id, event.round) == (each["session"], each["round"])
            assert each["place"] == f"{event.session_id}#{event.seq}"
        refused = [each["event"] for each in found if each["scanner"] == "refused"]
        rows = reader.rows("SELECT event_seq FROM tool_calls WHERE status IN ('refused', 'error') ORDER BY id")
        assert refused == [row["event_seq"] for row in rows]
        marked = [reader.body(row["marks"]) for row in reader.rows("SELECT marks FROM claims")]
        marks = sum(each["scanner"] in ("numbers", "instructions") for each in found)
        assert marks <= sum(len(json.loads(each or "[]")) for each in marked)
    text = said(capsys, recorded, "scan", RECORDED_ID)
    assert found[0]["place"] in text and "1 session scanned" in text
    said(capsys, recorded, "scan", "--fail-on-findings", code=1)
    said(capsys, recorded, "scan", "--only", "empty", "--fail-on-findings")
    assert program.run(["log", "scan", "--only", "nothing", "--ledger", str(recorded)]) == 2
    assert "expected some of numbers" in " ".join(capsys.readouterr().err.split())
    assert all(name in said(capsys, recorded, "scan", "--list") for name in SCANNERS)


def planted(ledger: Path) -> Reader:
    """The recorded session with what every scanner looks for that it has none of."""
    with Ledger.open(ledger) as log, log.transaction("planted"):
        row = log.rows("SELECT * FROM llm_calls ORDER BY id LIMIT 1")[0]
        for kind, reason in (("empty", None), ("truncated", "length")):
            event = log.event(RECORDED_ID, "llm_call", f"a call, {kind}", round=1, agent="critic", status="error")
            same = {name: row[name] for name in ("agent", "spec", "model_requested")}
            log.add(
                "llm_calls",
                event_seq=event,
                session_id=RECORDED_ID,
                request_hash=kind,
                attempt=1,
                context=[],
                tools=[],
                status="error",
                error_kind=kind,
                finish_reason=reason,
                **same,
            )
        log.event(RECORDED_ID, "error", "The critic (rules) did not finish.", round=1, agent="critic", status="error")
    return Reader.open(ledger)


def test_every_scanner_finds_what_is_planted(tmp_path: Path) -> None:
    with planted(recorded_ledger(tmp_path / "ledger.db")) as reader:
        last = {each.scanner: each for each in scan(reader, [RECORDED_ID])}
        assert {"empty", "cut", "gave-up"} <= set(last)
        assert last["cut"].sentence == "the reply was cut at its limit of tokens" and last["gave-up"].agent == "critic"
        (stats,) = [each for each in agent_stats(reader, [RECORDED_ID]) if each.role == "critic"]
        assert stats.failed >= 2 and stats.given_up >= 1


def test_statistics_are_those_of_the_rows(recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = json.loads(said(capsys, recorded, "stats", "--json"))
    with Reader.open(recorded) as reader:
        for each in rows:
            (calls,) = reader.rows(
                "SELECT count(*) n, sum(tokens_in) tokens, sum(cost_usd) usd FROM llm_calls "
                "WHERE agent = ? AND spec = ? AND status = 'ok'",
                (each["role"], each["backend"]),
            )
            assert each["replies"] == calls["n"] and each["cost_usd"] == calls["usd"]
            if not each["failed"]:
                assert each["tokens_in"] == calls["tokens"]
        tools = reader.rows(
            "SELECT count(*) n FROM tool_calls WHERE agent IN ('generator', 'validator', 'coordinator')"
        )
        assert sum(each["tool_calls"] for each in rows if each["role"] != "critic") == tools[0]["n"]
    text = said(capsys, recorded, "stats")
    assert "generator" in text and "tokens in" in text and "Brier score" in text


def test_the_same_session_twice_never_parts(two: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Reader.open(two) as reader:
        newest, second, first = reader.session_ids()
        same = parting(reader, first, second)
        assert (same.first, same.second) == (None, None) and same.same > 20
        other = parting(reader, first, newest)
        assert other.first is not None and other.second is not None and other.same < same.same
        assert (other.first.title, other.first_said) != (other.second.title, other.second_said)
    text = said(capsys, two, "diff", first, newest)
    for part in ("Configuration", "seed: 0 / 1", "First divergence", f"{first}#{other.first.seq}", "Side by side"):
        assert part in text
    assert "are the same" in said(capsys, two, "diff", first, second)
    assert json.loads(said(capsys, two, "diff", first, newest, "--json"))["divergence"]["same"] == other.same


def test_tail_shows_the_last_events(recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Reader.open(recorded) as reader:
        events = reader.events()
    lines = said(capsys, recorded, "tail", "-n", "3").splitlines()
    assert [line.split()[0] for line in lines if line.startswith("#")] == [f"#{each.seq}" for each in events[-3:]]
    assert said(capsys, recorded, "tail", "-n", "0") == ""
    whole = said(capsys, recorded, "tail", "-n", "100000")
    assert sum(line.startswith("#") for line in whole.splitlines()) == len(events)


def test_two_readers_follow_a_session_to_its_end(tmp_path: Path) -> None:
    """They begin before there is a log, in shells of their own."""
    settings = tiny_settings(tmp_path)
    options = ["-f", "-n", "1000", "--ledger", str(settings.ledger)]
    command = [sys.executable, "-m", "learning_signal", "log", "tail", *options]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": tmp_path}
    readers = [subprocess.Popen(command, **pipes) for _ in range(2)]
    for each in readers:
        assert "waiting for a session" in each.stderr.readline()
    run_inline(settings)
    with Reader.open(settings.ledger) as reader:
        events = [each.seq for each in reader.events()]
    for each in readers:
        stdout, stderr = each.communicate(timeout=30)
        shown = [int(line.split()[0][1:]) for line in stdout.splitlines() if line.startswith("#")]
        assert shown == events and each.returncode == 0
        assert "is done" in stderr


def test_a_backup_is_one_moment_of_a_log_that_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ledger, to = recorded_ledger(tmp_path / "ledger.db"), tmp_path / "copies" / "copy.db"
    stop, written = threading.Event(), []

    def write() -> None:
        with Ledger.open(ledger) as log:
            while not stop.is_set():
                written.append(log.event(RECORDED_ID, "message", "and one more"))

    writer = threading.Thread(target=write)
    writer.start()
    try:
        while len(written) < 5:
            time.sleep(0.01)
        assert json.loads(said(capsys, ledger, "backup", str(to), "--json"))["bytes"] == to.stat().st_size
    finally:
        stop.set()
        writer.join()
    with Reader.open(to) as copy, Reader.open(ledger) as reader:
        events = copy.events()
        assert events == reader.events()[: len(events)] and len(events) >= written[4]
    assert json.loads(said(capsys, to, "verify", "--json"))["findings"] == []
    assert [each.name for each in to.parent.iterdir()] == ["copy.db"]
    before = to.read_bytes()
    assert program.run(["log", "backup", str(to), "--ledger", str(ledger)]) == 2
    assert "overwrites nothing" in " ".join(capsys.readouterr().err.split()) and to.read_bytes() == before
    assert program.run(["log", "backup", "/proc/nowhere/copy.db", "--ledger", str(ledger)]) == 2
    assert program.run(["log", "backup", str(tmp_path / "other.db"), "--ledger", str(tmp_path / "none.db")]) == 2
