"""A round's facts are stored once, in rows: after every commit they give back the state that the session has."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import learning_signal.agents.session.running as running
from learning_signal.agents.session.observer import SessionControl
from learning_signal.ledger.errors import LedgerError
from learning_signal.ledger.read.reader import Reader
from learning_signal.ledger.write.writer import Ledger
from learning_signal.marl.gate.settings import GateSettings
from learning_signal.tools.context import SessionContext
from learning_signal.tools.plan.settings import DeliberationSettings, TriggerSettings
from learning_signal.tools.state import SessionState
from tests.support.killed_session import outermost
from tests.support.ledger_helpers import tamper
from tests.support.session_helpers import Recorder, resume_inline, run_inline, state_of, tiny_settings

TABLES = ("diagnoses", "proposals", "branches", "branch_segments", "comparisons", "verdicts", "decisions", "main_run")
OF_ALL_ROUNDS = ("head", "before", "probation", "tried", "history", "branches", "comparisons")
OF_A_ROUND = (
    "regression",
    "diagnosis",
    "diagnosis_id",
    "proposals",
    "branches",
    "screens",
    "confirmations",
    "verdicts",
    "decision",
)
SESSIONS: dict[str, tuple[str, dict[str, Any], set[str]]] = {
    "a promotion that is rolled back": ("regresses", {"rounds": 3}, set()),
    "refinements in vain, without a Critic": (
        "nothing helps",
        {"rounds": 2, "deliberation": DeliberationSettings(candidates=1, refinements=1, critic=False)},
        {"diagnosis", "screens", "probation", "regression"},
    ),
    "candidates that all fail": ("candidates diverge", {"rounds": 2}, {"confirmations", "probation", "regression"}),
    "screens with rungs, and a promotion that holds": (
        "",
        {
            "rounds": 2,
            "gate": GateSettings(screen_halvings=1),
            "branch_steps": 800,
            "deliberation": DeliberationSettings(candidates=4, refinements=0),
        },
        {"regression"},
    ),
}
"""What happens in a session: the world it trains in, its settings, and the facts that it never has."""


def facts(state: SessionState) -> list[str]:
    """What the rows hold, as texts: unlike ==, these tell the order of a ranking, and a list from a tuple."""
    found = [repr(getattr(state, name)) for name in OF_ALL_ROUNDS]
    return found if state.round is None else found + [repr(getattr(state.round, name)) for name in OF_A_ROUND]


class _Watch:
    """Compares, after every commit of a session, its state with the one that a resume would make."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.commits: Counter[str] = Counter()
        """By label, those compared."""
        self.seen: Counter[str] = Counter()
        """By fact, the commits after which the round in progress, or the session, had one."""
        self._context: SessionContext | None = None

        def opened(**parts: Any) -> SessionContext:
            self._context = SessionContext(**parts)
            return self._context

        patch.setattr(running, "SessionContext", opened)
        patch.setattr(Ledger, "transaction", outermost(lambda label: None, self._compare))

    def _compare(self, label: str) -> None:
        if self._context is None:
            return
        state = self._context.state
        with Reader.open(self._context.ledger.path) as reader:
            again = state_of(reader)
        assert again == state, label
        assert facts(again) == facts(state), label
        self.commits[label] += 1
        self.seen.update(name for name in OF_A_ROUND if state.round is not None and getattr(state.round, name))
        self.seen.update(name for name in OF_ALL_ROUNDS if getattr(state, name))


@pytest.mark.parametrize("name", SESSIONS)
def test_after_every_commit_the_rows_give_back_what_is_in_memory(tmp_path, monkeypatch, name):
    world, changes, absent = SESSIONS[name]
    monkeypatch.setenv("SYNTHETIC_WORLD", world)
    watch = _Watch(monkeypatch)
    assert run_inline(tiny_settings(tmp_path, trigger=TriggerSettings(every=1), **changes)).status == "done"
    assert watch.commits["step"] >= 8 and watch.commits["tool call ok"] >= 8 and watch.commits["stage"] > 0
    assert {*OF_A_ROUND, *OF_ALL_ROUNDS} - set(watch.seen) == absent


@pytest.fixture(scope="module")
def before_the_end(tmp_path_factory) -> Path:
    """The ledger of a session that was paused when its second round had decided, and that round was not over."""
    folder, control = tmp_path_factory.mktemp("paused"), SessionControl()
    saved = folder / "at the decision.db"

    def keep(row: dict[str, Any]) -> None:
        if row["kind"] == "decision" and row["round"] == 2:
            with sqlite3.connect(folder / "ledger.db") as stored, sqlite3.connect(saved) as copy:
                stored.backup(copy)
            control.request_pause()

    settings = tiny_settings(folder, rounds=2, trigger=TriggerSettings(every=1))
    assert run_inline(settings, Recorder(on_event=keep), control).status == "paused"
    return saved


@pytest.fixture
def decided(before_the_end, tmp_path) -> Path:
    return Path(shutil.copy(before_the_end, tmp_path / "ledger.db"))


def state_in(ledger: Path) -> SessionState:
    with Reader.open(ledger) as reader:
        return state_of(reader)


def test_the_cursor_holds_none_of_it(decided):
    with Reader.open(decided) as reader:
        cursor, state = reader.cursor(), state_of(reader)
    assert state.round.decision is not None and state.tried and state.history
    assert not {*OF_A_ROUND} & cursor["round"].keys() and cursor["round"]["number"] == 2
    assert not {*OF_ALL_ROUNDS} & cursor.keys()
    assert cursor["round"]["records"].keys() == {"critic", "generator", "validator"}  # negative control


@pytest.mark.parametrize("table", TABLES)
def test_a_row_that_is_gone_is_missed(decided, table):
    """Negative control: there is no second store that would fill the gap."""
    before = facts(state_in(decided))
    tamper(decided, f"DELETE FROM {table} WHERE rowid = (SELECT max(rowid) FROM {table})")
    try:
        assert facts(state_in(decided)) != before
    except LedgerError as error:
        assert "lacks a row that others of session" in str(error)


def test_a_session_that_lacks_a_proposal_is_refused_without_a_trace(before_the_end, decided):
    tamper(decided, "DELETE FROM proposals")
    with Reader.open(decided) as reader:
        before = reader.events()
    with pytest.raises(LedgerError, match="lacks a row that others of session .* rest on.*log verify"):
        resume_inline(tiny_settings(decided.parent, store=before_the_end.parent / "segments"))
    with Reader.open(decided) as reader:
        assert reader.events() == before


def with_facts(state: SessionState) -> dict[str, Any]:
    """The cursor as earlier versions wrote it, which held what the rows hold."""

    def dump(value: Any) -> Any:
        return (
            [dump(each) for each in value] if isinstance(value, list) else getattr(value, "model_dump", lambda: value)()
        )

    cursor = state.model_dump(mode="json")
    cursor |= {name: dump(getattr(state, name)) for name in OF_ALL_ROUNDS}
    return cursor | {"round": cursor["round"] | {name: dump(getattr(state.round, name)) for name in OF_A_ROUND}}


@pytest.mark.parametrize("changed", [False, True], ids=["same facts", "other facts"])
def test_a_cursor_of_an_earlier_version_is_read_and_the_rows_are_believed(before_the_end, decided, changed):
    state = state_in(decided)
    cursor = with_facts(state)
    if changed:
        cursor |= {"tried": [], "branches": 99}
        cursor["round"]["verdicts"] = []
    with sqlite3.connect(decided) as raw:
        raw.execute("UPDATE cursors SET state = ?", (json.dumps(cursor),))
    with Reader.open(decided) as reader:
        assert "verdicts" in reader.cursor()["round"]
    assert facts(state_in(decided)) == facts(state)
    store = before_the_end.parent / "segments"
    assert resume_inline(tiny_settings(decided.parent, store=store)).status == "done"
    assert state_in(decided).tried == state.tried and len(state_in(decided).history) == 2
