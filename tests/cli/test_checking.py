"""``session``, ``resume``, ``study`` and ``run_session`` try every model backend before anything is trained."""

from __future__ import annotations

import asyncio
from unittest.mock import AsyncMock, patch

import pytest

from learning_signal import run, run_session
from learning_signal.agents.model.providers.spec import SpecError
from learning_signal.agents.session.observer import SessionControl
from learning_signal.commands.checking import refuse_unusable
from tests.support.scripted_server import call, serving, text
from tests.support.session_helpers import Recorder, run_inline, tiny_settings

DOWN = "openai-api/m@http://127.0.0.1:9/v1?attempts=1&deadline=5"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_session_whose_backend_is_down_trains_nothing(folder, capsys):
    assert run.run(["session", "--agent", f"critic={DOWN}", "--agent", f"validator={DOWN}"]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert f"The backend of the critic and validator failed its check: Backend '{DOWN}' cannot be reached" in said
    assert "choose another with '--agent critic=SPEC'" in said and "--no-check" in said
    assert list(folder.iterdir()) == []


def test_a_resume_asks_too_and_changes_nothing(folder, capsys):
    control = SessionControl()

    def pause(row):
        if row["kind"] == "diagnosis":
            control.request_pause()

    settings = tiny_settings(folder)
    assert run_inline(settings, Recorder(on_event=pause), control).status == "paused"
    before = settings.ledger.read_bytes()
    resumes = ["resume", "latest", "--ledger", str(settings.ledger), "--agent", f"generator={DOWN}"]
    assert run.run(resumes) == 2
    assert "The backend of the generator failed its check" in " ".join(capsys.readouterr().err.split())
    assert settings.ledger.read_bytes() == before


def test_a_study_of_sessions_asks_too_unless_told_not_to(folder, capsys):
    study = ["study", "--env-steps", "4M", "--seeds", "1", "--agent", f"critic={DOWN}", "--workers", "1"]
    assert run.run([*study, "--arms", "supervised,twin"]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "The backend of the critic failed its check" in said and "--no-check" in said
    assert list(folder.iterdir()) == []
    compared: list[tuple[str, ...]] = []

    def compare(settings, planned, **options):
        compared.append(settings.arms)
        return 0

    with patch("learning_signal.commands.study.compare", compare):
        assert run.run([*study, "--arms", "supervised", "--no-check"]) == 0
        assert run.run([*study, "--arms", "twin"]) == 0  # it has no agents
        assert run.run([*study[:5], "--arms", "random", "--agent", f"generator={DOWN}"]) == 0  # its generator is random
    assert compared == [("supervised",), ("twin",), ("random",)]


def test_the_python_api_asks_too_unless_told_not_to(folder):
    given = {"agents": {"generator": DOWN}, "ledger": folder / "ledger.db", "store": folder / "segments"}
    with pytest.raises(SpecError, match="The backend of the generator failed its check.*leave the check out: check=F"):
        run_session(**given)
    assert list(folder.iterdir()) == []
    unchecked = AsyncMock(return_value="done")
    with patch("learning_signal.agents.session.session.run_session", unchecked):
        assert run_session(**given, check=False) == "done"
    unchecked.assert_awaited_once()


def test_rules_are_not_asked():
    refuse_unusable({"critic": "rules", "generator": "random"})


def checked(*replies):
    """The requests of a check of one backend behind two agents."""

    async def main():
        async with serving(*replies) as server:
            spec = f"openai-api/m@{server.address}?attempts=1"
            await asyncio.to_thread(refuse_unusable, {"critic": spec, "generator": spec, "validator": "rules"})
            return server.requests

    return asyncio.run(main())


def test_a_backend_behind_two_agents_is_asked_once(capsys):
    assert len(checked(call("report_status", '{"status": "ready"}'))) == 1
    assert "critic and generator: Backend" in capsys.readouterr().err


def test_a_model_that_calls_no_tool_is_refused():
    with pytest.raises(SpecError, match="answers but called no tool; choose a model that supports tool calling"):
        checked(text("I am ready."))


def test_a_chain_is_usable_if_one_of_its_backends_is(capsys):
    async def main():
        async with serving(call("report_status", '{"status": "ready"}')) as server:
            working = f"openai-api/m@{server.address}?attempts=1"
            await asyncio.to_thread(refuse_unusable, {"critic": f"{DOWN}|{working}"})

    asyncio.run(main())
    said = " ".join(capsys.readouterr().err.split())
    assert "critic: Backend 'openai-api/m@http://127.0.0.1:9" in said and "Another of its chain answers." in said


def test_a_chain_of_which_none_is_usable_is_refused(capsys):
    with pytest.raises(SpecError, match="The backend of the critic failed its check"):
        refuse_unusable({"critic": f"{DOWN}|{DOWN}&seed=1"})
    refuse_unusable({"critic": f"{DOWN}|rules"})  # negative control
