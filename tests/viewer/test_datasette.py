"""The log in Datasette: every query runs and says what the log says, packed views too, and only for this machine."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from learning_signal import run
from learning_signal.ledger.read.reader import Reader
from learning_signal.viewer.exports.datasette import QUERIES, app, only_here
from tests.support.places import ROOT
from tests.support.recorded_ledger import RECORDED_ID, recorded_ledger


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return recorded_ledger(tmp_path_factory.mktemp("ledger") / "my log.db")


def answered(datasette: Any, path: str) -> Any:
    """The response of Datasette's own client."""

    async def ask() -> Any:
        await datasette.invoke_startup()
        return await datasette.client.get(path)

    return asyncio.run(ask())


def rows_of(reader: Reader, name: str, **given: str) -> list[dict[str, Any]]:
    """The rows of a query by SQLite alone; what is not given is left empty, as in a browser."""
    cursor = reader._connection.execute(QUERIES[name][1], {"session": "", "metric": "", **given})
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor]


def test_every_query_says_what_the_log_says(ledger: Path) -> None:
    with Reader.open(ledger) as reader:
        found = {name: rows_of(reader, name) for name in QUERIES}
        decisions, events, costs = reader.decisions(), reader.events(), reader.costs()
        assert rows_of(reader, "story", session="another") == []
        values = rows_of(reader, "metrics", metric="learning_rate"), rows_of(reader, "metrics", metric="entropy")
        assert values[1] == found["metrics"] and {row["name"] for row in found["metrics"]} == {"entropy"}
    assert [(row["round"], row["action"], row["words"]) for row in found["decisions"]] == [
        (each.round, each.action, each.reason) for each in decisions
    ]
    assert [row["event"] for row in found["story"]] == [each.seq for each in events]
    assert sum(row["calls"] for row in found["model_calls"]) == costs.llm_calls
    assert sum(row["tokens_in"] or 0 for row in found["model_calls"]) == costs.tokens_in
    assert {row["fate"] for row in found["candidates"]} >= {"promoted", "screened out"}
    assert {row["tool"] for row in found["tool_calls"]} >= {"submit_diagnosis", "confirm"}
    assert all(found[name] for name in QUERIES if name != "unsupported")
    assert [row["env_steps"] for row in found["curve"]] == sorted(row["env_steps"] for row in found["curve"])


def test_datasette_answers_them(ledger: Path) -> None:
    datasette = app(ledger)
    with Reader.open(ledger) as reader:
        expected = {name: rows_of(reader, name) for name in QUERIES}
    for name, rows in expected.items():
        response = answered(datasette, f"/my+log/{name}.json?_shape=array&session={RECORDED_ID}&metric=entropy")
        assert response.status_code == 200, response.text
        assert response.json() == rows[:1000]
    assert answered(datasette, "/my+log/episodes.json?_shape=array&_size=3").json()[0]["episode"] == 1
    page = answered(datasette, "/my+log")
    assert page.status_code == 200 and "What was decided, on what verdict" in page.text
    assert answered(datasette, "/my+log.db").status_code == 403, "the file itself is not handed out"


@pytest.mark.parametrize(
    ("host", "status"), [("127.0.0.1:8001", 200), ("localhost", 200), ("evil.example:8001", 403), ("", 403)]
)
def test_it_answers_only_under_the_names_of_this_machine(host: str, status: int) -> None:
    async def inner(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})

    told: list[dict[str, Any]] = []

    async def send(message):
        told.append(message)

    headers = [(b"host", host.encode())] if host else []
    asyncio.run(only_here(inner)({"type": "http", "headers": headers}, None, send))
    assert told[0]["status"] == status


def test_the_command_serves_it_until_it_is_stopped(ledger: Path) -> None:
    command = [sys.executable, str(ROOT / "run.py"), "log", "browse", "--port", "0", "--ledger", str(ledger)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as served:
        try:
            address = served.stdout.readline().strip()
            asked = f"{address}my+log/decisions.json?_shape=array"
            deadline = time.monotonic() + 30
            while True:
                try:
                    with urllib.request.urlopen(asked, timeout=30) as answer:
                        rows = json.load(answer)
                    break
                except urllib.error.URLError:
                    assert time.monotonic() < deadline and served.poll() is None
                    time.sleep(0.1)
            port = address.rstrip("/").rpartition(":")[2]
            taken = subprocess.run([*command[:5], port, *command[6:]], capture_output=True, text=True, timeout=60)
        finally:
            served.send_signal(signal.SIGINT)
    assert [row["action"] for row in rows] == ["promote", "keep", "promote", "roll_back"]
    assert served.returncode == 130, "stopped by Ctrl-C"
    assert taken.returncode == 2 and f"The port {port} cannot be used" in taken.stderr


def test_without_datasette_it_is_one_sentence(
    ledger: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [each for each in sys.modules if each.partition(".")[0] == "datasette"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "datasette", None)
    assert run.run(["log", "browse", "--ledger", str(ledger)]) == 2
    assert "datasette is not installed" in capsys.readouterr().err
