"""A session is played again from its log, with every answer, error, pause and person; another one is told apart."""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
import sqlite3
import subprocess
import sys
import time
from contextlib import closing

import pytest

from learning_signal.agents.model import keys
from learning_signal.agents.replay.network import NoNetwork, no_network
from learning_signal.agents.replay.original import Original
from learning_signal.agents.replay.restoring import restore
from learning_signal.agents.replay.session import replay_session
from learning_signal.agents.rules import RulesClient
from learning_signal.agents.session.running import SessionError
from learning_signal.agents.session.session import run_session
from learning_signal.ledger.read.reader import Reader
from learning_signal.ledger.read.verify import verify
from learning_signal.marl.gate.recompute import recompute
from learning_signal.tools.context import HumanAnswer
from learning_signal.tools.plan.settings import DeliberationSettings, TriggerSettings, session_rules
from learning_signal.tools.roles import ROLES
from tests.support.places import ROOT
from tests.support.record_ledger import record, settings_in
from tests.support.rules_server import messages_of
from tests.support.scripted_server import call, calls, error, serving, text
from tests.support.session_helpers import Recorder, story, tiny_settings
from tests.support.session_helpers import resume_inline as resume
from tests.support.session_helpers import run_inline as run
from tests.support.synthetic_training import InlinePool

FACTS = ("decisions", "verdicts", "comparisons", "candidates", "main_run")


def replayed(settings, **options):
    """The last session of a log, played again beside it."""
    original = Original(settings.ledger, "latest", **options)
    return asyncio.run(replay_session(original, settings.ledger.with_name("replay.db")))


def same_requests(result):
    """The result of a replay, which must have gone to the end."""
    assert result.divergence is None, "\n".join([result.divergence.sentence, *result.divergence.lines])
    assert (result.decisions, result.requests) == (result.of_decisions, result.of_requests)
    return result


def same(settings):
    """The replay, which must be the same session in every request, message and fact."""
    result = same_requests(replayed(settings))
    before, after = story(settings.ledger), story(settings.ledger.with_name("replay.db"), result.replay)
    for part in FACTS:
        assert after[part] == before[part], part
    with Reader.open(settings.ledger.with_name("replay.db")) as reader:
        assert verify(reader, recompute, session_rules) == []
    return result


def over_http(settings, role, serving_it, more=""):
    """The session with one role behind a server; ``more`` is added to its spec."""

    async def main():
        async with serving_it as server:
            spec = f"openai-api/m@{server.address}?attempts=2{more}"
            chosen = settings.model_copy(update={"agents": settings.agents | {role: spec}})
            return await run_session(chosen, observer=Recorder(), executor=InlinePool(settings.store))

    return asyncio.run(main())


# what must come out the same ----------------------------------------------------------------------


def test_a_session_of_rules_is_reproduced(tmp_path):
    talk = DeliberationSettings(candidates=2, refinements=1)
    settings = tiny_settings(tmp_path, rounds=2, trigger=TriggerSettings(every=1), deliberation=talk)
    assert run(settings).status == "done"
    result = same(settings)
    assert result.of_decisions == 2 and result.of_requests > 8


def test_the_agents_are_told_of_the_same_earlier_sessions(tmp_path):
    settings = tiny_settings(tmp_path)
    run(settings)
    run(settings.model_copy(update={"seed": 1}))
    same(settings)


def test_errors_weak_replies_people_failures_and_a_kill_are_reproduced(tmp_path, monkeypatch):
    """The recorded session: retries, texts, refusals, a dead worker, approvals, a roll-back, and a kill."""
    cut_off = record(tmp_path)
    monkeypatch.setattr(keys, "read_key", lambda *of: pytest.fail("a replay reads no key"))
    settings = settings_in(tmp_path).model_copy(update={"ledger": cut_off})
    result = same(settings)
    assert result.stopped == "The session ended here." and result.of_decisions >= 4
    with Reader.open(cut_off.with_name("replay.db")) as replay, Reader.open(cut_off) as original:
        kinds = "SELECT error_kind, tokens_in, tokens_out FROM llm_calls WHERE status IN ('ok', 'error') ORDER BY id"
        assert replay.rows(kinds) == original.rows(kinds)
        assert [each.title for each in replay.events(kind="approval")] == [
            each.title for each in original.events(kind="approval")
        ]


def test_a_promotion_that_a_person_rejected_is_rejected_again(tmp_path):
    settings = tiny_settings(tmp_path, approve="human")
    run(settings, Recorder(answer=HumanAnswer(approved=False, reason="I do not trust it: it looks odd.")))
    same(settings)
    with Reader.open(tmp_path / "replay.db") as reader:
        (decision,) = reader.decisions()
        assert decision.decided_by == "human" and decision.reason.endswith("I do not trust it: it looks odd.")


def test_a_session_that_was_killed_and_resumed_is_reproduced(tmp_path):
    """Once with a model call in flight, once with an answer whose tools were not yet done."""
    cases = [("llm call begins", 6, "after"), ("tool call ok", 7, "before")]
    folders = [tmp_path / str(number) for number in range(len(cases))]
    plan = [
        {"folder": str(folder), "label": label, "nth": nth, "when": when, "workers": False}
        for folder, (label, nth, when) in zip(folders, cases, strict=True)
    ]
    script = ROOT / "tests" / "support" / "killed_session.py"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, str(script), json.dumps(plan)], env=environment, check=True, timeout=120)
    for folder in folders:
        settings = tiny_settings(folder)
        assert resume(settings).status == "done"
        same(settings)


def test_a_server_that_fails_for_good_and_a_resume_with_another_model_are_reproduced(tmp_path):
    settings = tiny_settings(tmp_path, rounds=2)
    outcome = over_http(settings, "generator", serving(error(401, "no such key")))
    assert outcome.status == "paused"
    assert resume(settings, agents={"generator": "rules"}).status == "done"
    same(settings)
    with Reader.open(tmp_path / "replay.db") as reader:
        specs = [row["spec"] for row in reader.rows("SELECT spec FROM llm_calls WHERE agent = 'generator' ORDER BY id")]
        assert specs[0].startswith("openai-api/") and set(specs[1:]) == {"rules"}


def test_a_fallback_that_took_over_is_reproduced(tmp_path):
    settings = tiny_settings(tmp_path)

    busy = serving(error(503, "busy", retry_after="0"))
    assert over_http(settings, "critic", busy, "&fallback=rules").status == "done"
    same(settings)


def test_an_agent_that_never_calls_a_tool_gives_up_again(tmp_path):
    settings = tiny_settings(tmp_path, deliberation=DeliberationSettings(candidates=2, refinements=0, steps=3))
    replies = (text("Hm."), text(""), call("submit_diagnosis", "{nothing"), text("I would wait."))
    outcome = over_http(settings, "critic", serving(*replies))
    assert outcome.status == "done" and outcome.troubles
    same(settings)


# where it is another ------------------------------------------------------------------------------


def test_a_changed_prompt_is_the_first_divergence(tmp_path, monkeypatch):
    settings = tiny_settings(tmp_path)
    run(settings)
    from learning_signal.agents import roles

    whole = roles.render

    def changed(role, variables):
        prompt = whole(role, variables)
        if role != "generator":
            return prompt
        return type(prompt)(prompt.text.replace("potential", "POTENTIAL", 1), prompt.hash, prompt.template_hash)

    monkeypatch.setattr(roles, "render", changed)
    result = replayed(settings)
    with Reader.open(settings.ledger) as reader:
        (first, *_) = reader.rows("SELECT event_seq FROM llm_calls WHERE agent = 'generator' ORDER BY id")
    assert result.divergence.event == first["event_seq"]
    assert "generator in round 1" in result.divergence.sentence
    changes = [line for line in result.divergence.lines if line[:1] in "+-" and line[:3] not in ("+++", "---")]
    assert len(changes) == 2 and "potential" in changes[0] and "POTENTIAL" in changes[1]
    assert result.requests < result.of_requests and result.decisions == 0


def test_a_changed_tool_is_a_divergence(tmp_path, monkeypatch):
    settings = tiny_settings(tmp_path)
    run(settings)
    from learning_signal.agents import workbench

    whole = workbench.tool_schema
    monkeypatch.setattr(
        workbench, "tool_schema", lambda tool: {**whole(tool), "description": f"{whole(tool)['description']} Now!"}
    )
    result = replayed(settings)
    assert any(line.startswith("+") and line.endswith('Now!",') for line in result.divergence.lines)


def test_a_decision_that_was_changed_in_the_log_is_found(tmp_path):
    settings = tiny_settings(tmp_path)
    run(settings)
    with closing(sqlite3.connect(settings.ledger)) as database, database:
        for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            database.execute(f"DROP TRIGGER {name}")
        database.execute("UPDATE decisions SET reason = 'It was my own idea.'")
        (event,) = database.execute("SELECT event_seq FROM decisions").fetchone()
    result = replayed(settings)
    assert (result.divergence.event, result.divergence.sentence) == (event, "The decision is another one.")
    assert any("It was my own idea." in line for line in result.divergence.lines)


def test_other_training_is_a_divergence(tmp_path):
    """A store of somebody else, in which a control scored otherwise."""
    settings = tiny_settings(tmp_path)
    run(settings)
    with Reader.open(settings.ledger) as reader:
        screened = [row.id for row in reader.segments().values() if row.purpose == "screen"]
    file = settings.store / screened[0] / "result.json"
    result = json.loads(file.read_text())
    for evaluation in result["evaluations"]:
        evaluation["progress"] = [0.9] * len(evaluation["progress"])
    file.write_text(json.dumps(result))
    found = replayed(settings).divergence
    assert found is not None and found.event is not None and "comparison" in found.sentence


# network, store -----------------------------------------------------------------------------------


def test_no_network_bites():
    listener = socket.create_server(("127.0.0.1", 0))
    address = listener.getsockname()

    async def open_connection():
        await asyncio.open_connection(*address)

    with listener:
        with no_network():
            for attempt in (
                lambda: socket.create_connection(address),
                lambda: socket.socket().connect(address),
                lambda: socket.socket().connect_ex(address),
                lambda: socket.socket(type=socket.SOCK_DGRAM).sendto(b"x", address),
                lambda: socket.getaddrinfo("example.org", 80),
                lambda: asyncio.run(open_connection()),
            ):
                with pytest.raises(NoNetwork):
                    attempt()
        socket.create_connection(address).close()  # and only as long as it holds


def test_a_replay_cannot_reach_a_server(tmp_path, monkeypatch):
    """Whatever were to connect from inside of a replay would be refused."""
    settings = tiny_settings(tmp_path)
    run(settings)
    from learning_signal.agents.replay import session

    async def curious(*given):
        socket.create_connection(("127.0.0.1", 9))

    monkeypatch.setattr(session, "play", curious)
    with pytest.raises(NoNetwork):
        replayed(settings)


def test_a_missing_store_is_said_and_trained_again_where_that_is_asked_for(tmp_path, monkeypatch):
    settings = tiny_settings(tmp_path)
    run(settings)
    os.rename(settings.store, tmp_path / "moved")
    with Reader.open(settings.ledger) as reader:
        segments = len(reader.segments())
    said = rf"without {segments} of the {segments} .* --store FOLDER, .* --retrain \(5.6 k env steps"
    with pytest.raises(SessionError, match=said):
        replayed(settings)
    assert replayed(settings, store=tmp_path / "moved").divergence is None
    from learning_signal.agents.replay import restoring

    monkeypatch.setattr(restoring, "open_executor", lambda root, workers, on_progress: InlinePool(root))
    original = Original(settings.ledger, "latest", trains=True)
    assert asyncio.run(restore(original)) == segments and original.missing() == []
    assert asyncio.run(replay_session(original, tmp_path / "second.db")).divergence is None


def test_a_replay_is_not_written_into_its_own_log(tmp_path):
    settings = tiny_settings(tmp_path)
    run(settings)
    before = settings.ledger.read_bytes()
    with pytest.raises(SessionError, match="expected another"):
        asyncio.run(replay_session(Original(settings.ledger, "latest"), settings.ledger))
    replayed(settings)
    assert settings.ledger.read_bytes() == before


@pytest.mark.slow
def test_ten_rounds_are_reproduced_in_less_than_a_twentieth_of_the_model_time(tmp_path):
    """Of a model that thinks for 0.8 seconds. The replay's time is that of its processor: tests share machines."""
    talk = DeliberationSettings(candidates=2, refinements=0, critic=False)
    settings = tiny_settings(tmp_path, rounds=10, trigger=TriggerSettings(every=1), deliberation=talk)
    asked = []

    async def think(request):
        role = re.search(r"You are the (\w+)", request.body["messages"][0]["content"])[1].lower()
        asked.append(role)
        tools = [each["function"] for each in request.body.get("tools") or ()]
        made = await RulesClient(role).create(messages_of(request.body["messages"]), tools=tools)
        await asyncio.sleep(0.8)
        if isinstance(made.content, str):
            return text(made.content)
        return calls([(each.id, each.name, each.arguments) for each in made.content])

    async def main():
        async with serving(think) as server:
            agents = dict.fromkeys(ROLES, f"openai-api/m@{server.address}")
            chosen = settings.model_copy(update={"agents": agents})
            return await run_session(chosen, observer=Recorder(), executor=InlinePool(settings.store))

    assert asyncio.run(main()).status == "done"
    began = time.process_time()
    result = same_requests(replayed(settings))
    seconds = time.process_time() - began
    assert result.of_decisions == 10 and result.of_requests == len(asked) >= 30
    assert result.model_seconds > 0.8 * len(asked)
    assert seconds < 0.05 * result.model_seconds, (seconds, result.model_seconds)
