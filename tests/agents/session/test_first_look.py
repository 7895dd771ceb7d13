"""What every Critic reads first is read by code: it stands in the brief, and can be cited at once."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from learning_signal.agents.session.session import run_session
from learning_signal.ledger.read.reader import Reader
from learning_signal.tools.plan.settings import DeliberationSettings
from tests.support.scripted_server import call, serving
from tests.support.session_helpers import Recorder, run_inline, tiny_settings
from tests.support.synthetic_training import InlinePool


def brief_of(reader: Reader) -> dict[str, Any]:
    """The Critic's first brief."""
    rows = reader.rows("SELECT body FROM messages WHERE target = 'critic' AND type = 'task' ORDER BY id LIMIT 1")
    found: dict[str, Any] = json.loads(reader.body(rows[0]["body"]).partition("\n")[2])
    return found


def test_the_rules_read_their_brief_and_submit(tmp_path: Path) -> None:
    settings = tiny_settings(tmp_path)
    assert run_inline(settings).status == "done"
    with Reader.open(settings.ledger) as reader:
        metrics, behaviour = brief_of(reader)["read_for_you"]
        names = reader.rows("SELECT name FROM tool_calls WHERE round = 1 AND agent = 'critic' ORDER BY id")
    assert [each["name"] for each in names] == ["query_metrics", "summarize_trajectories", "submit_diagnosis"]
    assert set(metrics["result"]["points"]) == {"env_steps", *metrics["arguments"]["names"]}
    assert set(metrics["definitions"]) < set(metrics["arguments"]["names"]) and "entropy" in metrics["definitions"]
    assert behaviour["arguments"] == {} and "features" in behaviour["result"]["summary"]


def test_without_behaviour_only_metrics_are_read(tmp_path: Path) -> None:
    settings = tiny_settings(tmp_path, deliberation=DeliberationSettings(behaviour=False))
    assert run_inline(settings).status == "done"
    with Reader.open(settings.ledger) as reader:
        assert [each["call"] for each in brief_of(reader)["read_for_you"]] == ["query_metrics"]
        (prompt,) = [each.prompt for each in reader.agents(reader.session_id()) if each.role == "critic"]
    assert "preview_shaping" not in prompt and "summarize_trajectories" not in prompt


def test_what_was_read_can_be_cited_in_the_first_turn_and_nothing_beyond(tmp_path: Path) -> None:
    def diagnosis(evidence: str) -> str:
        failures = [{"description": "Nobody scores.", "evidence": [evidence]}]
        return json.dumps({"stage": "exploring", "failures": failures, "advice": "Shape."})

    async def session() -> Any:
        replies = (call("submit_diagnosis", diagnosis("E3")), call("submit_diagnosis", diagnosis("E2")))
        async with serving(*replies) as server:
            settings = tiny_settings(tmp_path)
            spec = f"openai-api/lab/some-model@{server.address}?attempts=1"
            settings = settings.model_copy(update={"agents": settings.agents | {"critic": spec}})
            return await run_session(settings, observer=Recorder(), executor=InlinePool(settings.store))

    assert asyncio.run(session()).status == "done"
    with Reader.open(tiny_settings(tmp_path).ledger) as reader:
        rows = reader.rows("SELECT status FROM tool_calls WHERE name = 'submit_diagnosis' ORDER BY id LIMIT 2")
    assert [row["status"] for row in rows] == ["refused", "ok"]
