"""A log of a stranger that is replayed: nothing of it is executed, contacted, written, or becomes this user's."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from learning_signal import run
from learning_signal.agents.replay.original import Original
from learning_signal.agents.replay.session import replay_session
from learning_signal.ledger import origin
from learning_signal.ledger.read.reader import Reader
from learning_signal.tools.consent import Consent, NotTrusted
from tests.support.session_helpers import run_inline, tiny_settings
from tests.trust.test_trust import HOSTILE, PWNED, changed, everything, says

CODE = "their_own_code"


@pytest.fixture
def received(tmp_path, monkeypatch):
    """A folder with a session that somebody else ran, on a machine whose user has begun none."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(origin.STATE_VARIABLE, str(tmp_path / "theirs"))
    settings = tiny_settings(tmp_path / "runs")
    run_inline(settings)
    monkeypatch.setenv(origin.STATE_VARIABLE, str(tmp_path / "mine"))
    return settings


def test_a_received_session_on_a_shipped_task_is_replayed_without_a_question(received, capsys):
    assert run.run(["replay", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["decisions"], result["divergence"], result["ledger"]) == (1, None, None)


@pytest.mark.parametrize("task", [HOSTILE, f"{CODE}:make"])
def test_code_that_a_received_log_names_is_not_executed(received, capsys, task):
    Path(f"{CODE}.py").write_text(f"open({PWNED!r}, 'w').close()\n")
    changed(config=lambda config: config["run"].update(task=task))
    sentence = says(capsys, "replay")
    assert "nothing was contacted, executed or written" in sentence
    assert ("no option allows it" in sentence) == (task == HOSTILE)
    assert not Path(PWNED).exists()


def test_a_received_session_is_not_trained_again_into_the_folder_that_it_names(received, tmp_path):
    with pytest.raises(NotTrusted, match="--store"):
        Original(received.ledger, "latest", trains=True)
    Original(received.ledger, "latest", store=tmp_path / "here", trains=True)
    Original(received.ledger, "latest", consent=Consent(trust=True), trains=True)


def test_neither_the_session_nor_its_replay_becomes_this_users(received, tmp_path):
    before = everything(tmp_path)
    original = Original(received.ledger, "latest", consent=Consent(trust=True))
    result = asyncio.run(replay_session(original, tmp_path / "replay.db"))
    for ledger, session in ((received.ledger, result.session), (tmp_path / "replay.db", result.replay)):
        with Reader.open(ledger) as reader:
            assert not origin.is_ours(reader.rows, session)
    assert everything(tmp_path) - before == {tmp_path / "replay.db"}


def test_a_backend_that_a_received_log_names_is_neither_built_nor_given_a_key(received, monkeypatch, capsys):
    """The addresses and variables that it names are words: no client is made of them, and no key is read."""
    monkeypatch.setenv("THEIR_API_KEY", "sk-canary-0123456789abcdef")
    stranger = "openai-api/m@http://stranger.example/v1?api_key_env=THEIR_API_KEY"
    changed(config=lambda config: config["agents"].update(critic=stranger))
    monkeypatch.setattr("learning_signal.agents.model.keys.read_key", lambda *of: pytest.fail("a key was read"))
    monkeypatch.setattr("learning_signal.agents.model.backends.build_client", lambda *of: pytest.fail("it was built"))
    assert run.run(["replay", "--to", "kept.db"]) == 0
    assert b"canary" not in Path("kept.db").read_bytes()
    assert "canary" not in capsys.readouterr().out
