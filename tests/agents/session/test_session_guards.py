"""Sessions under people and programs that misbehave: views that fail, edited logs, other folders, changed backends."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sqlite3
from dataclasses import replace
from functools import partial

import pytest

import learning_signal.agents.roles
import learning_signal.agents.session.running
from learning_signal.agents.prompts import FOLDER, render
from learning_signal.agents.session.observer import SessionControl
from learning_signal.agents.session.running import SessionError
from learning_signal.agents.session.session import run_session
from learning_signal.ledger.errors import LedgerError
from learning_signal.ledger.read.reader import Reader
from learning_signal.ledger.write.writer import Ledger
from learning_signal.tools.roles import ROLES
from learning_signal.tools.state import SessionState
from tests.support.scripted_server import call, calls, serving
from tests.support.session_helpers import Recorder, tiny_settings
from tests.support.session_helpers import resume_inline as resume
from tests.support.session_helpers import run_inline as run
from tests.support.synthetic_training import InlinePool


def decided(settings) -> list[tuple]:
    """What a session decided, by content."""
    with Reader.open(settings.ledger) as reader:
        return [(each.action, each.segment_to, each.shaping_to, each.reason) for each in reader.decisions()]


# views --------------------------------------------------------------------------------------------


def test_a_view_that_fails_changes_nothing(tmp_path):
    def fail(row):
        if row["kind"] == "segment" and "confirm c1: done" in row["title"]:
            raise BrokenPipeError("the reader is gone")

    watched, unwatched = tiny_settings(tmp_path / "a"), tiny_settings(tmp_path / "b")
    observer = Recorder(on_event=fail)
    assert run(watched, observer).status == run(unwatched).status == "done"
    assert decided(watched) == decided(unwatched) != []
    assert not any(row["kind"] == "decision" for row in observer.events)  # it is told nothing after it failed


def test_a_pause_is_heard_while_the_twin_trains(tmp_path):
    settings, control = tiny_settings(tmp_path, twin=True), SessionControl()

    def pause_at_the_twin(row):
        if row["phase"] == "twin":
            control.request_pause()

    outcome = run(settings, Recorder(on_event=pause_at_the_twin), control)
    assert outcome.status == "paused" and outcome.twin["env_steps"] < outcome.after["total_env_steps"]
    finished = resume(settings)
    assert finished.status == "done" and finished.twin["env_steps"] == finished.after["total_env_steps"]


# resuming -----------------------------------------------------------------------------------------


def paused_at(folder, kind: str, **changes):
    """The settings of a session that was paused after the step of its first event of ``kind``."""
    settings, control = tiny_settings(folder, **changes), SessionControl()

    def pause(row):
        if row["kind"] == kind:
            control.request_pause()

    assert run(settings, Recorder(on_event=pause), control).status == "paused"
    return settings


def test_a_backend_given_at_a_resume_stays_for_the_next(tmp_path):
    down = "openai-api/lab/m@http://127.0.0.1:9/v1?attempts=1&deadline=5"
    settings = paused_at(tmp_path, "diagnosis")
    assert resume(settings, agents={"generator": down}).status == "paused"
    again = resume(settings)
    assert again.status == "paused" and "127.0.0.1:9" in again.stop_reason
    assert resume(settings, agents={"generator": "rules"}).status == "done"
    with Reader.open(settings.ledger) as reader:
        specs = [row.spec for row in reader.agents() if row.role == "generator"]
    assert specs == ["rules", down, "rules"]


def test_an_edited_prompt_is_in_the_ledger_after_a_resume(tmp_path, monkeypatch):
    settings = paused_at(tmp_path, "diagnosis")
    folder = tmp_path / "prompts"
    shutil.copytree(FOLDER, folder)
    monkeypatch.setattr(learning_signal.agents.roles, "render", partial(render, folder=folder))
    (folder / "generator.md").write_text((folder / "generator.md").read_text() + "\nBe brief.\n")
    assert resume(settings).status == "done"
    with Reader.open(settings.ledger) as reader:
        prompts = {role: [row.prompt for row in reader.agents() if row.role == role] for role in ROLES}
    assert {role: len(texts) for role, texts in prompts.items()} == dict.fromkeys(ROLES, 1) | {"generator": 2}
    assert [text.endswith("Be brief.\n") for text in prompts["generator"]] == [False, True]


def test_a_session_goes_on_from_another_folder(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    settings = paused_at(tmp_path, "diagnosis", store=os.path.join("runs", "segments"))
    monkeypatch.chdir(tmp_path / "there")
    monkeypatch.setattr(learning_signal.agents.session.running, "open_executor", InlinePool)
    assert resume(settings, pool=None).status == "done"  # it opens its own, over the store that it remembers
    assert not (tmp_path / "there" / "runs").exists()


@pytest.mark.parametrize("table", ["sessions", "cursors"])
def test_what_another_version_wrote_is_one_sentence(tmp_path, table):
    settings = paused_at(tmp_path, "diagnosis")
    connection = sqlite3.connect(settings.ledger)
    for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
        connection.execute(f"DROP TRIGGER {name}")
    if table == "sessions":
        connection.execute(
            "UPDATE bodies SET body = json_set(body, '$.from_the_future', 1) WHERE hash = (SELECT config FROM sessions)"
        )
    else:
        connection.execute("UPDATE cursors SET state = json_set(state, '$.from_the_future', 1)")
    connection.commit()
    connection.close()
    with pytest.raises(SessionError, match="another version of this program .*from_the_future"):
        resume(settings)


@pytest.mark.parametrize("noted", [True, False], ids=["noted", "negative control"])
def test_a_submission_counts_once_where_its_step_is_taken_again(tmp_path, monkeypatch, noted):
    """A kill between the submission and the end of its step, and a resume whose edited prompt asks the model anew."""
    settings, control, saved = tiny_settings(tmp_path), SessionControl(), []

    def keep_the_cursor(row):
        if row["kind"] == "tool_call" and row["title"] == "critic called submit_diagnosis":
            with Ledger.open(settings.ledger) as ledger:
                saved.append(ledger.load_cursor(row["session_id"]))
            control.request_pause()

    assert run(settings, Recorder(on_event=keep_the_cursor), control).status == "paused"
    state = SessionState.model_validate(saved[0])
    assert state.ended_by == "submit_diagnosis" and state.phase == "critic"
    left = state if noted else state.model_copy(update={"ended_by": None})
    connection = sqlite3.connect(settings.ledger)
    connection.execute("UPDATE cursors SET state = ?", (left.model_dump_json(),))  # as the kill left it
    connection.commit()
    connection.close()
    render = learning_signal.agents.roles.render

    def edited(role, variables):
        prompt = render(role, variables)
        return replace(prompt, text=prompt.text + " Be brief.")

    monkeypatch.setattr(learning_signal.agents.roles, "render", edited)
    if not noted:
        with pytest.raises(LedgerError, match="UNIQUE"):
            resume(settings)
        return
    assert resume(settings).status == "done"
    with Reader.open(settings.ledger) as reader:
        assert len(reader.rows("SELECT * FROM diagnoses")) == 1


def test_evidence_of_the_same_step_cannot_be_cited(tmp_path):
    """A model that looks and diagnoses in one reply has not read what it cites."""
    failures = [{"description": "Nobody scores.", "evidence": ["E3"]}]
    submission = json.dumps({"stage": "exploring", "failures": failures, "advice": "Shape."})
    at_once = calls([("a", "query_metrics", '{"names": ["sparse_return"]}'), ("b", "submit_diagnosis", submission)])

    async def session():
        async with serving(at_once, call("submit_diagnosis", submission)) as server:
            settings = tiny_settings(tmp_path)
            spec = f"openai-api/lab/some-model@{server.address}?attempts=1"
            settings = settings.model_copy(update={"agents": settings.agents | {"critic": spec}})
            return await run_session(settings, observer=Recorder(), executor=InlinePool(settings.store))

    assert asyncio.run(session()).status == "done"
    with Reader.open(tiny_settings(tmp_path).ledger) as reader:
        rows = reader.rows("SELECT status FROM tool_calls WHERE name = 'submit_diagnosis' ORDER BY id")
    assert [row["status"] for row in rows] == ["refused", "ok"]
