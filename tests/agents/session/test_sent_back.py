"""A Coordinator that sends the round back: the Validator confirms again, then it decides; also across interruptions."""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import learning_signal.agents.session.running as running
from learning_signal.agents.session.observer import SessionControl
from learning_signal.agents.session.session import resume_session, run_session
from learning_signal.ledger.read.reader import Reader
from learning_signal.ledger.read.verify import verify
from learning_signal.ledger.write.writer import Ledger
from learning_signal.marl.gate.recompute import recompute
from learning_signal.tools.context import SessionContext
from learning_signal.tools.plan.budget import Budget
from learning_signal.tools.plan.settings import DeliberationSettings, SessionSettings, session_rules
from tests.support.killed_session import outermost
from tests.support.scripted_server import Reply, call, serving
from tests.support.session_helpers import Recorder, state_of, story, tiny_settings
from tests.support.synthetic_training import InlinePool

COORDINATOR = "openai/gpt-4.1?temperature=0"
BACK = call("send_back", json.dumps({"candidate": "c2", "reason": "c2 is simpler."}))
PROMOTE = call("promote", json.dumps({"candidate": "c1", "reason": "It passed first."}))


def settings_in(folder: Path) -> SessionSettings:
    settings = tiny_settings(folder, deliberation=DeliberationSettings(candidates=2, refinements=1))
    return settings.model_copy(
        update={
            "agents": settings.agents | {"coordinator": COORDINATOR},
            "agent_sources": settings.agent_sources | {"coordinator": "command line"},
        }
    )


def run(
    folder: Path,
    patch: pytest.MonkeyPatch,
    *replies: Reply,
    stop_at: tuple[str, int] | None = None,
    budget: int | None = None,
) -> list[dict]:
    """A session whose Coordinator answers so; its events.

    It is cut off at the n-th event of a kind, or by a ``budget`` of env steps, and resumed (with a larger one).
    """
    settings, seen = settings_in(folder).model_copy(update={"budget": Budget(env_steps=budget)}), Counter[str]()
    control, events = SessionControl(), []

    def watch(row: dict[str, Any]) -> None:
        events.append(row)
        seen[row["kind"]] += 1
        if stop_at == (row["kind"], seen[row["kind"]]):
            control.abort()

    async def main() -> None:
        async with serving(*replies) as server:
            patch.setenv("OPENAI_BASE_URL", server.address)
            patch.setenv("OPENAI_API_KEY", "a-key-of-no-server")
            with InlinePool(settings.store) as pool:
                outcome = await run_session(settings, observer=Recorder(on_event=watch), control=control, executor=pool)
            if stop_at is not None or budget is not None:
                assert outcome.status != "done"
                assert budget is None or re.search(r"look \d of the confirmation needs 800", str(outcome.stop_reason))
                with InlinePool(settings.store) as pool:
                    outcome = await resume_session(
                        settings.ledger,
                        "latest",
                        observer=Recorder(on_event=events.append),
                        executor=pool,
                        budget=None if budget is None else {"env_steps": 10 * budget},
                    )
            assert outcome.status == "done"

    asyncio.run(main())
    return events


def findings(folder: Path) -> list[Any]:
    with Reader.open(folder / "ledger.db") as reader:
        return verify(reader, recompute, session_rules)


@pytest.fixture
def recalls(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Compares, after every commit, a session's state with the one that a resume would make; counts them by label."""
    commits: Counter[str] = Counter()
    contexts: list[SessionContext] = []

    def opened(**parts: Any) -> SessionContext:
        contexts.append(SessionContext(**parts))
        return contexts[-1]

    def compare(label: str) -> None:
        if contexts:
            with Reader.open(contexts[-1].ledger.path) as reader:
                assert state_of(reader) == contexts[-1].state, label
            commits[label] += 1

    monkeypatch.setattr(running, "SessionContext", opened)
    monkeypatch.setattr(Ledger, "transaction", outermost(lambda label: None, compare))
    return commits


def test_it_is_validated_again_and_then_decided(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recalls: Counter[str]
) -> None:
    run(tmp_path, monkeypatch, BACK, PROMOTE)
    assert recalls["step"] > 8 and recalls["tool call ok"] > 8
    told = story(tmp_path / "ledger.db")
    tasks = [(one["source"], one["target"]) for one in told["messages"] if one["type"] == "task"]
    phases = ["critic", "generator", "validator", "coordinator", "validator", "coordinator"]
    assert tasks == [("session", phase) for phase in phases]
    with Reader.open(tmp_path / "ledger.db") as reader:
        rows = reader.rows(
            "SELECT b.body FROM messages m JOIN bodies b ON b.hash = m.body WHERE m.type = 'task' ORDER BY m.id"
        )
    briefs = [row["body"] for row in rows]
    assert ["c2 is simpler." in each for each in briefs] == [False] * 4 + [True, False]
    decides = [json.loads(briefs[place].partition("\n")[2]) for place in (3, 5)]
    assert [each["may_be_asked"] for each in decides] == [["critic", "generator", "validator"]] * 2
    assert [each.get("confirmable", []) for each in decides] == [["c2"], []]
    assert [(one["candidate_id"].rpartition("/")[2], one["outcome"]) for one in told["verdicts"]] == [
        ("c1", "pass"),
        ("c2", "pass"),
    ]
    (decision,) = told["decisions"]
    assert (decision["action"], decision["candidate_id"].rpartition("/")[2]) == ("promote", "c1")
    assert findings(tmp_path) == []


def test_the_round_is_over_where_it_is_not_sent_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control."""
    run(tmp_path, monkeypatch, PROMOTE)
    assert len(story(tmp_path / "ledger.db")["verdicts"]) == 1 and findings(tmp_path) == []


def test_a_round_with_no_confirmation_left_cannot_be_sent_back_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    again = call("send_back", json.dumps({"candidate": "c1", "reason": "Once more."}), call_id="call_2")
    events = run(tmp_path, monkeypatch, BACK, again, PROMOTE)
    refused = [row for row in events if row["kind"] == "tool_call" and row["status"] == "refused"]
    assert len(refused) == 1 and len(story(tmp_path / "ledger.db")["verdicts"]) == 2


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The story of the session that nobody interrupts."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        run(folder, patch, BACK, PROMOTE)
    return story(folder / "ledger.db")


@pytest.mark.parametrize(
    "stop_at",
    [("sent_back", 1), ("branch", 6), ("branch", 7), ("comparison", 3), ("verdict", 2)],
    ids=lambda place: f"{place[0]} {place[1]}",
)
def test_it_goes_on_wherever_it_was_cut_off(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    recalls: Counter[str],
    whole: dict[str, Any],
    stop_at: tuple[str, int],
) -> None:
    run(tmp_path, monkeypatch, BACK, PROMOTE, stop_at=stop_at)
    assert story(tmp_path / "ledger.db") == whole
    assert findings(tmp_path) == []


def test_a_look_that_the_budget_does_not_cover_pauses_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: dict[str, Any]
) -> None:
    """The budget has room for a round of one confirmation: a second one, if the first ends early."""
    run(tmp_path, monkeypatch, BACK, PROMOTE, budget=6000)
    assert story(tmp_path / "ledger.db") == whole
    assert findings(tmp_path) == []
