"""``replay/SESSION`` as a backend of a new session: recorded answers to the same requests, and none to another."""

from __future__ import annotations

import asyncio

import pytest

from learning_signal.agents.model.specs import SpecError, parse_chain
from learning_signal.agents.session.session import run_session
from learning_signal.ledger.read.reader import Reader
from tests.support.rules_server import rules_serving
from tests.support.session_helpers import Recorder, run_inline, story, tiny_settings
from tests.support.synthetic_training import InlinePool


@pytest.fixture
def recorded(tmp_path, monkeypatch):
    """A session whose Critic is a model that looks first, and so is told of the steps that are left; its settings."""
    settings, turns = tiny_settings(tmp_path), []

    def look_first(wanted, messages):
        turns.append(wanted)
        return [("query_metrics", {"names": ["entropy"]})] if len(turns) == 1 else wanted

    async def main():
        async with rules_serving("critic", look_first) as server:
            agents = settings.agents | {"critic": f"openai-api/m@{server.address}"}
            chosen = settings.model_copy(update={"agents": agents})
            return await run_session(chosen, observer=Recorder(), executor=InlinePool(settings.store))

    assert asyncio.run(main()).status == "done" and len(turns) == 2
    monkeypatch.setenv("LEARNING_SIGNAL_LEDGER", str(settings.ledger))
    return settings


def again(settings, agents, **changes):
    """A new session in another log; its outcome and settings."""
    changed = {"ledger": settings.ledger.with_name("again.db"), "agents": settings.agents | agents, **changes}
    chosen = settings.model_copy(update=changed)
    return run_inline(chosen), chosen


def test_the_same_requests_have_the_recorded_answers(recorded):
    outcome, chosen = again(recorded, dict.fromkeys(recorded.agents, "replay/latest"))
    assert outcome.status == "done"
    before, after = story(recorded.ledger), story(chosen.ledger)
    assert all(after[part] == before[part] for part in ("decisions", "verdicts", "comparisons", "messages"))


def test_another_request_has_none_and_pauses_the_session(recorded):
    outcome, _ = again(recorded, {"critic": "replay/latest"}, seed=1)
    assert outcome.status == "paused"
    assert "has no answer to this request" in outcome.stop_reason and "--agent" in outcome.stop_reason


def test_in_a_chain_the_next_backend_takes_over_where_the_recording_ends(recorded):
    assert len(parse_chain("replay/latest|rules")) == 2
    with pytest.raises(SpecError, match="never fails"):
        parse_chain("rules|replay/latest")
    outcome, chosen = again(recorded, {"critic": "replay/latest|rules"}, seed=1)
    assert outcome.status == "done"
    with Reader.open(chosen.ledger) as reader:
        calls = reader.rows("SELECT spec, status FROM llm_calls WHERE agent = 'critic' ORDER BY id")
    assert (calls[0]["spec"], calls[0]["status"]) == ("replay/latest", "error")
    assert (calls[1]["spec"], calls[1]["status"]) == ("rules", "ok")


def test_a_session_that_is_not_there_is_said_before_anything_is_trained(recorded):
    with pytest.raises(SpecError, match="finds no session"):
        again(recorded, {"critic": "replay/20990101-000000-abc"})
