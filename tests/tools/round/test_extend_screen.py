"""A screen that is close is given further seeds: of whom, how often, and what the log says of it."""

from __future__ import annotations

from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from learning_signal.ledger.read.decision.explain import explain
from learning_signal.ledger.read.reader import Reader
from learning_signal.ledger.read.verify import verify
from learning_signal.marl.gate.recompute import recompute
from learning_signal.marl.gate.settings import GateSettings
from learning_signal.tools.base import ToolRefused
from learning_signal.viewer.reports.explain import render_decision
from tests.support.scripted_session import SESSION, SETTINGS, ScriptedSession
from tests.support.trainer_double import by_arm

POTENTIALS = ("coverage_distance", "collisions", "worst_coverage_distance")
EFFECTS: dict[Any, Any] = {"main": [0.0, 0.02], "c1": 0.05, "c2": 0.049, "c3": 0.02}
"""c1 and c2 are close."""


@pytest.fixture
def session(tmp_path: Path) -> Iterator[ScriptedSession]:
    """A session whose three candidates are screened."""
    with ScriptedSession(tmp_path, by_arm(EFFECTS), settings=SETTINGS) as session:
        session.propose(*POTENTIALS)
        session.screen()
        yield session


def extend(session: ScriptedSession, *names: str) -> dict[str, Any]:
    return session.call("extend_screen", candidates=list(names), reason="They are close.")


def seeds(session: ScriptedSession, arm: str) -> int:
    (branch,) = [each for each in session.context.round.branches if (each.purpose, each.arm) == ("screen", arm)]
    return len(branch.segments)


def sound(session: ScriptedSession) -> bool:
    with Reader.open(session.ledger.path) as reader:
        return not [each for each in verify(reader, recompute) if each.table == "comparisons"]


def test_the_named_candidates_are_ranked_anew_on_one_seed_more_and_the_others_are_out(session):
    found = extend(session, "c1", "c2")
    assert [row["candidate"] for row in found["ranking"]] == ["c1", "c2"] and found["confirmable"] == ["c1", "c2"]
    assert (seeds(session, "control"), seeds(session, "c1"), seeds(session, "c3")) == (2, 2, 1)
    assert found["extend_screen"]["seeds_left"] == GateSettings().screen_further - 1
    with pytest.raises(ToolRefused, match="expected c1 or c2"):
        session.call("launch_branch", arm="c3", purpose="confirm", reason="I like it.")
    assert sound(session)


def test_a_resume_reads_the_further_seeds_back(session):
    extend(session, "c1", "c2")
    again, now = session.recalled().round, session.context.round
    assert again is not None and again.branches == now.branches and again.screens == now.screens


def test_the_reason_is_in_the_log(session):
    extend(session, "c1", "c2")
    titles = [row["title"] for row in session.rows("events")]
    assert "a further seed of the screen for control, c1, c2: “They are close.”" in titles


def explained(session: ScriptedSession) -> str:
    """The part of ``explain`` about the screen, after a keep."""
    session.validate("c1", session.confirm("c1")["outcome"])
    session.call("keep", reason="The test asks for it.")
    console = Console(width=100, record=True, file=StringIO())
    with Reader.open(session.ledger.path) as reader:
        console.print(render_decision(explain(reader, f"{SESSION}/R1")))
    return console.export_text().partition("\nScreen\n")[2].partition("\nChosen")[0]


def test_explain_tells_an_extended_screen_once_with_what_the_further_seeds_added(session):
    was = {row["candidate"]: row["difference"] for row in session.screened()["ranking"]}
    for _ in range(2):
        extend(session, "c1", "c2")
    now = {row["candidate"]: row["difference"] for row in session.screened()["ranking"]}
    told = explained(session)
    plain = " ".join(told.split())
    assert told.count("order: ") == 1 and told.count("may be confirmed") == 2 and told.count("→ c1 is first") == 1
    assert plain.count("a further seed, difference of progress") == 2 and plain.count("“They are close.”") == 2
    first, _, last = plain.partition("a further seed")[2].partition("a further seed")
    assert f"c1 {was['c1']:+.3g} → " in first and f"c3 stays at {was['c3']:+.3g}, left out" in first
    assert f"→ {now['c1']:+.3g}" in last and f"→ {now['c2']:+.3g}" in last and "c3" not in last
    assert max(map(len, told.splitlines())) <= 100


def test_explain_tells_a_screen_that_was_not_extended_as_it_is(session):
    """Negative control."""
    told = explained(session)
    assert told.count("order: ") == 1 and told.count("may be confirmed") == 3 and "a further seed" not in told


def test_there_are_so_many_further_seeds_and_no_more(session):
    for left in range(GateSettings().screen_further - 1, -1, -1):
        assert extend(session, "c1", "c2")["extend_screen"]["seeds_left"] == left
    with pytest.raises(ToolRefused, match="no further seed left"):
        extend(session, "c1", "c2")


def test_after_a_confirmation_has_begun_the_screen_stays_as_it_is(session):
    session.call("launch_branch", arm="control", purpose="confirm")
    session.call("launch_branch", arm="c1", purpose="confirm")
    with pytest.raises(ToolRefused, match="a confirmation begun"):
        extend(session, "c1", "c2")


def test_a_candidate_that_the_last_screen_did_not_rank_is_refused(session):
    with pytest.raises(ToolRefused, match="Found c9, expected some of c1, c2, c3"):
        extend(session, "c1", "c9")
    extend(session, "c1", "c2")
    with pytest.raises(ToolRefused, match="Found c3, expected some of c1, c2"):
        extend(session, "c3")


def test_more_further_seeds_than_the_gate_allows_are_found_in_the_log(session):
    """Negative control of ``sound``."""
    extend(session, "c1", "c2")
    with Reader.open(session.ledger.path) as reader:
        (row,) = [each for each in reader.comparisons(SESSION) if "further" in each.inputs]
        again = recompute("screen", row.inputs, row.settings)
        assert again["order"] == row.result["order"]
        with pytest.raises(ValueError, match="further seeds of a screen"):
            recompute("screen", row.inputs, row.settings | {"screen_further": 0})
