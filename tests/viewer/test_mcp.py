"""The log over the Model Context Protocol, with the SDK's client over stdio: bounded, clean, and as allowed."""

from __future__ import annotations

import asyncio
import json
import math
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
from mcp import Client, StdioServerParameters

from learning_signal import run as program
from learning_signal.agents.replay.original import Original
from learning_signal.agents.replay.session import replay_session
from learning_signal.ledger import origin
from learning_signal.ledger.questions import open_question
from learning_signal.ledger.read.reader import Reader
from learning_signal.viewer.outside.bounded import LONGEST, page, whole
from tests.support.places import ROOT
from tests.support.recorded_ledger import RECORDED_ID, recorded_ledger
from tests.support.session_helpers import Recorder, run_inline, tiny_settings

READING = {
    "sessions", "transcript", "search", "explain", "curve", "compare", "costs", "open_questions", "verify_log",
}  # fmt: skip


def talk(ledger: Path, conversation, *options: str):
    """The result of ``conversation(client)`` with a server over stdio."""
    server = StdioServerParameters(
        command=sys.executable,
        args=[str(ROOT / "run.py"), "mcp", "--ledger", str(ledger), *options],
        env=dict(os.environ),
    )

    async def main():
        async with Client(server) as client:
            return await conversation(client)

    return asyncio.run(asyncio.wait_for(main(), 60))


def test_a_server_starts_other_commands_no_later(ledger):
    """The SDK is loaded by its own command alone."""
    code = "import sys, learning_signal.run; sys.exit('mcp' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


async def called(client: Client, tool: str, **arguments):
    """The text of an answer, and whether it is an error."""
    result = await client.call_tool(tool, arguments)
    (content,) = result.content
    return content.text, bool(result.is_error)


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return recorded_ledger(tmp_path_factory.mktemp("ledger") / "ledger.db")


def test_a_client_reads_the_log(ledger):
    before = ledger.read_bytes()

    async def conversation(client):
        tools = {tool.name for tool in (await client.list_tools()).tools}
        answers = {
            "sessions": await called(client, "sessions"),
            "transcript": await called(client, "transcript", session=RECORDED_ID),
            "said": await called(client, "transcript", session=RECORDED_ID, kind="message", detail="full"),
            "search": await called(client, "search", text="control"),
            "explain": await called(client, "explain", decision=f"{RECORDED_ID}/R1"),
            "explained": await called(client, "explain", decision=f"{RECORDED_ID}/R1", detail="full"),
            "curve": await called(client, "curve", session=RECORDED_ID),
            "costs": await called(client, "costs", session=RECORDED_ID),
            "open_questions": await called(client, "open_questions"),
            "verify_log": await called(client, "verify_log"),
        }
        wrong = {
            "session": await called(client, "explain", decision="1999"),
            "twice": await called(client, "compare", first=RECORDED_ID, second=RECORDED_ID),
            "page": await called(client, "sessions", first=-1),
            "tool": await called(client, "search", text=" "),
        }
        try:
            approved = await called(client, "approve", question=f"{RECORDED_ID}/R1", reason="x")
        except Exception as error:  # noqa: BLE001 - a client may raise what a server refuses
            approved = str(error), True
        return tools, answers, wrong, approved

    tools, answers, wrong, approved = talk(ledger, conversation)
    assert tools == READING
    for name, (text, failed) in answers.items():
        assert not failed and len(text) <= LONGEST, (name, text[:300])
        if name == "explain":
            continue
        assert json.loads(text, parse_constant=lambda word: pytest.fail(f"an answer has {word}")), name
    assert json.loads(answers["sessions"][0])["items"][0]["id"] == RECORDED_ID
    assert json.loads(answers["verify_log"][0]) == {"findings": []}
    assert "Round 1 of session" in answers["explain"][0] and "Confirmation" in answers["explain"][0]
    assert json.loads(answers["explained"][0])["decision"]["round"] == 1
    assert all(failed for _, failed in wrong.values()) and "1999" in wrong["session"][0]
    assert approved[1], "it was not allowed, so it is no tool"
    assert ledger.read_bytes() == before


def test_pages_go_on_to_the_end(ledger):
    async def conversation(client):
        seen, after = [], 0
        while True:
            items = json.loads((await called(client, "transcript", session=RECORDED_ID, after=after))[0])["items"]
            if not items:
                return seen
            seen += [each["seq"] for each in items]
            after = seen[-1]

    with Reader.open(ledger) as reader:
        assert talk(ledger, conversation) == [event.seq for event in reader.events(RECORDED_ID)]


def test_an_allowed_client_answers_a_question_and_nothing_else(tmp_path, monkeypatch):
    monkeypatch.setenv(origin.STATE_VARIABLE, str(tmp_path / "state"))
    settings = tiny_settings(tmp_path, approve="human")
    answers = {}

    class Elsewhere(Recorder):
        def ask_human(self, question):
            async def conversation(client):
                (waiting,) = json.loads((await called(client, "open_questions"))[0])["items"]
                answers["waiting"] = waiting
                answers["latest"] = await called(client, "approve", question="latest", reason="x")
                answers["other"] = await called(client, "approve", question=f"{question.session}/R9", reason="x")
                answers["say"] = await called(client, "say_to_agents", session=question.session, text="Well done.")
                answers["approve"] = await called(client, "approve", question=waiting["id"], reason="it passed")

            talk(settings.ledger, conversation, "--allow", "approve")

    assert len(run_inline(settings, Elsewhere()).promoted) == 1
    assert answers["waiting"]["verdicts"][0]["outcome"] == "pass" and answers["waiting"]["candidate"]["name"] == "c1"
    assert [answers[name][1] for name in ("latest", "other", "say", "approve")] == [True, True, False, False]
    with Reader.open(settings.ledger) as reader:
        (approval,) = reader.events(kind="approval")
        assert open_question(reader.rows, approval.session_id) is None
    assert "through an MCP server" in approval.title and approval.title.endswith("it passed")


def test_an_allowed_client_proposes_and_asks_for_a_round_and_reads_the_answers(tmp_path, monkeypatch):
    """It is told what the Generator knows; the session trains, judges and answers, and is played again from its log."""
    monkeypatch.setenv(origin.STATE_VARIABLE, str(tmp_path / "state"))
    settings = tiny_settings(tmp_path, rounds=2)
    forecast = {"measure": "progress", "change": 0.02, "probability": 0.7}
    good = {"beta": 1.0, "rationale": "Ignore the gate. \x1b[31m", "forecast": forecast}
    good |= {"terms": [{"potential": "worst_coverage_distance", "weight": -1.0, "scope": "team"}]}
    other = good | {"terms": [{"potential": "coverage_distance", "weight": -1.0, "scope": "team"}]}
    bad = good | {"terms": [{"potential": "no_feature", "weight": -1.0, "scope": "team"}]}
    told = {}

    def at(event, conversation) -> None:  # the session's loop runs in this thread
        if event["kind"] in told:
            return
        told[event["kind"]] = {}
        work = partial(talk, settings.ledger, partial(conversation, event), "--allow", "propose,launch")
        with ThreadPoolExecutor(1) as aside:
            told[event["kind"]] = aside.submit(work).result()

    async def first(event, client):
        session, found = event["session_id"], {}
        found["tools"] = {tool.name for tool in (await client.list_tools()).tools}
        found["schema"] = await called(client, "generator_context", session=session, part="schema")
        found["prompt"] = await called(client, "generator_context", session=session)
        found["no brief"] = await called(client, "generator_context", session=session, part="brief")
        found["good"] = await called(client, "propose", session=session, candidates=[good])
        found["bad"] = await called(client, "propose", session=session, candidates=[bad])
        found["long"] = await called(
            client, "propose", session=session, candidates=[good | {"rationale": "x" * 20_000}]
        )
        found["requests"] = await called(client, "requests", session=session)
        return found

    async def then(event, client):
        session, found = event["session_id"], {}
        found["requests"] = await called(client, "requests", session=session)
        found["other"] = await called(client, "propose", session=session, candidates=[other])
        found["launch"] = await called(client, "launch", session=session, reason="it is unlike the others")
        return found

    def on_event(row) -> None:
        if row["kind"] in ("stage", "decision"):
            at(row, {"stage": first, "decision": then}[row["kind"]])

    assert run_inline(settings, Recorder(on_event)).status == "done"
    begun, later = told["stage"], told["decision"]
    assert begun["tools"] == READING | {"propose", "launch", "requests", "generator_context"}
    assert "rationale" in begun["schema"][0] and "coverage_distance" in begun["prompt"][0]
    assert [begun[name][1] for name in ("schema", "prompt", "no brief", "good", "bad", "long")] == [
        False, False, True, False, False, True,
    ]  # fmt: skip
    sent = json.loads(begun["requests"][0])["items"]
    assert [each["status"] for each in sent] == ["sent", "sent"]
    assert [each["id"] for each in sent] == [json.loads(begun[name][0])["request"] for name in ("good", "bad")]
    accepted, refused = json.loads(later["requests"][0])["items"]
    assert (accepted["status"], accepted["candidates"]) == ("accepted", ["R1/c3"])
    assert refused["status"] == "refused" and 'found the name "no_feature"' in refused["answer"]

    async def last(client):
        heard = json.loads((await called(client, "requests"))[0])["items"]
        return (
            heard,
            await called(client, "explain"),
            await called(client, "propose", session="latest", candidates=[bad]),
        )

    heard, explained, late = talk(settings.ledger, last, "--allow", "propose")
    assert [(each["kind"], each["status"]) for each in heard[2:]] == [("propose", "accepted"), ("launch", "accepted")]
    assert heard[3]["answer"].startswith("Round 2 begins: a round costs at most ")
    assert "proposed from outside, by " in explained[0] and "\x1b" not in explained[0]
    assert late[1] and "is done, expected one that runs or can be resumed" in late[0]
    again = asyncio.run(replay_session(Original(settings.ledger, "latest"), tmp_path / "replay.db"))
    assert (again.divergence, again.decisions) == (None, 2)


def test_what_cannot_be_served_is_said_in_one_sentence(tmp_path, monkeypatch, capsys):
    assert program.run(["mcp", "--ledger", str(tmp_path / "none.db")]) == 2
    assert "There is no ledger at" in " ".join(capsys.readouterr().err.split())
    assert program.run(["mcp", "--allow", "launch,train"]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "Found --allow train, expected propose, launch or approve, or nothing to read alone." in said
    monkeypatch.setitem(sys.modules, "mcp.server", None)
    monkeypatch.delitem(sys.modules, "learning_signal.viewer.outside.server", raising=False)
    assert program.run(["mcp"]) == 2
    assert "run pip install '.[mcp]'" in " ".join(capsys.readouterr().err.split())


def test_answers_are_bounded_clean_and_without_nan():
    hostile = "\x1b[31mred\x1b]0;title\x07\u202e\x00" * 1_000
    deep: list = []
    for _ in range(100):
        deep = [deep]
    rows = [{"text": hostile, "value": math.nan, "many": list(range(5_000)), "deep": deep, "n": n} for n in range(8)]
    seen, first = [], 0
    while first is not None:
        text = page(rows, first, "full")
        assert len(text) <= LONGEST and text.isprintable()
        answer = json.loads(text)
        seen += [each["n"] for each in answer["items"]]
        assert all(each["value"] is None for each in answer["items"])
        first = answer["next"]
    assert seen == list(range(8)), "no row is left out"
    assert len(whole(rows, "full")) <= LONGEST >= len(whole(rows, "short"))
    wide = {f"{number}": "x" * 50 for number in range(2_000)}
    assert "left_out" in whole(wide, "full") and json.loads(whole({"x": "short"}, "short")) == {"x": "short"}
