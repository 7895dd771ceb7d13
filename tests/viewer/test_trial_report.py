"""How a sequential confirmation reads: the ranking, who chose what and why, every branch, and what the test came to."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Iterator

import pytest
from rich.console import Console

from learning_signal.ledger.read.decision.explain import explain
from learning_signal.ledger.read.reader import Reader
from learning_signal.ledger.read.records import ComparisonRow, DecisionChain
from learning_signal.viewer.comparisons import comparison_lines
from learning_signal.viewer.live.story import spoken
from learning_signal.viewer.reports.explain import render_decision
from tests.support.scripted_session import PAIRED, ScriptedSession
from tests.support.trainer_double import by_arm

POTENTIALS = ("coverage_distance", "collisions", "spacing")
SCREEN = {("screen", "c1"): 0.02, ("screen", "c3"): 0.015, ("screen", "c2"): 0.01}
WHY = "Its one term is the simplest of the three, and what the ranking has before it differs by less than one step."
DIED = "The worker died (signal 9, SIGKILL)."


def shown(*renderables) -> str:
    console = Console(file=io.StringIO(), width=100, color_system=None, highlight=False)
    for each in renderables:
        console.print(each)
    return console.file.getvalue()


def chain(session: ScriptedSession) -> DecisionChain:
    with Reader.open(session.ledger.path) as reader:
        return explain(reader)


def words(text: str) -> str:
    return " ".join(text.split())


@pytest.fixture(scope="module")
def sent_back(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ScriptedSession]:
    """c3 is confirmed before its turn and fails; the Coordinator has c2 confirmed, which passes and is promoted."""
    effects = SCREEN | {("confirm", "c2"): 0.03}
    with ScriptedSession(tmp_path_factory.mktemp("sent-back"), by_arm(effects)) as session:
        session.propose(*POTENTIALS)
        session.screen()
        session.validate("c3", session.confirm("c3", WHY)["outcome"])
        session.call("send_back", candidate="c2", reason="It was better than the control too.")
        session.validate("c2", session.confirm("c2")["outcome"])
        session.call("promote", candidate="c2", reason="It passed.")
        yield session


def test_a_promotion_by_a_trial_is_told_whole(sent_back):
    text = shown(render_decision(chain(sent_back)))
    order = ["Screen", "Chosen to be confirmed", "Earlier confirmations", "Confirmation", "Verdict", "Decision"]
    places = [text.index(f"\n{title}") for title in order]
    assert places == sorted(places)
    said = words(text)
    for part in (
        "candidate gain in sparse return gain in progress sparse return progress",
        "c1 +0 +0.02 0 0.063 may be confirmed c3 +0 +0.015 0 0.058 may be confirmed "
        "c2 +0 +0.01 0 0.053 may be confirmed",
        "control 0 0.043",
        "order: at most 0.0% of an arm's episodes succeed, so progress decides → c1 is first",
        f"validator confirmed c3, chosen over c1: “{WHY}”",
        "coordinator sent the round back for c2: “It was better than the control too.”",
        "validator confirmed c2, as it was asked to",
        "c3: fail on progress: 0 of 1 pairs won (one branch of each arm)",
        "Confirmation: c2 against the control, each branch on a seed of its own",
        "branch control: sparse return control: progress c2: sparse return c2: progress 1 0 0.04",
        "won 25 of 25 pairs (5 of at most 6 branches of each arm; passes from 24 pairs on)",
        ", difference of progress +0.03 (interval +0.028 to +0.033), passes above delta 0.005, p = 0.00397 at level",
        "at level 0.0139; sparse return 0 against 0, progress 0.0738 against 0.0438",
        "Verdict record: pass on progress, without a gain in sparse return above delta 0.05 claim by validator: “",
    ):
        assert part in said, part
    assert said.count("so progress decides") == 1, "what the order rests on is said once"
    assert max(map(len, text.splitlines())) <= 100
    confirmed = text[text.index("\nScreen") : text.index("\nDecision")]
    assert "…" not in confirmed, "nothing of it is cut"


def test_a_choice_is_told_while_the_session_runs(sent_back):
    with Reader.open(sent_back.ledger.path) as reader:
        lines = [spoken(dataclasses.asdict(each), None) for each in reader.events(kind="branch")]
        back = [spoken(dataclasses.asdict(each), None) for each in reader.events(kind="sent_back")]
    told = [line.plain for line in lines if line is not None]
    assert len(told) == 1 and told[0].endswith(f"confirm c3 on 1 seed, chosen over c1: “{WHY}”")
    assert "sent back: confirm c2: “It was better than the control too.”" in back[0].plain


def test_a_single_candidate_is_ordered_by_the_main_run(tmp_path):
    with ScriptedSession(tmp_path, by_arm({"c1": 0.03})) as session:
        session.judged(POTENTIALS[0])
        session.call("promote", candidate="c1", reason="It passed.")
        said = words(shown(render_decision(chain(session))))
    assert "validator confirmed c1, the only candidate" in said and "Screen" not in said
    assert "order: at most 0.0% of an arm's episodes succeed, so progress decides" in said


def test_a_trial_that_ends_early_says_so_and_has_no_bound(tmp_path):
    with ScriptedSession(tmp_path, by_arm({"c1": -0.03})) as session:
        assert session.judged(POTENTIALS[0]) == "fail"
        session.call("keep", reason="It failed.")
        said = words(shown(render_decision(chain(session))))
    assert "won 0 of 1 pairs (1 of at most 6 branches of each arm; cannot pass after so few)" in said
    assert "(no bound after so few branches)" in said
    assert "; it ended early, as it could hardly pass any more" in said


def test_a_trial_of_a_branch_that_failed_says_what_happened(tmp_path):
    with ScriptedSession(tmp_path, by_arm({"c1": DIED})) as session:
        assert session.judged(POTENTIALS[0]) == "fail"
        session.call("keep", reason="It failed.")
        said = words(shown(render_decision(chain(session))))
    assert "nothing could be compared after 1 of at most 6 branches of each arm" in said
    assert "fail: the candidate has no sparse return for seed 1 of 1" in said


def look(session: ScriptedSession, **changes) -> ComparisonRow:
    found = chain(session).comparison
    return dataclasses.replace(found, result=found.result | changes)


@pytest.mark.parametrize(
    ("interval", "expected"),
    [
        ([0.01, None], "(interval at least +0.01)"),
        ([None, 0.02], "(interval at most +0.02)"),
        ([0.0, 0.02], "(interval +0 to +0.02)"),  # 0 is a bound, None is none
        ([None, None], "(no bound after so few branches)"),
    ],
)
def test_a_bound_that_is_none_is_not_shown(sent_back, interval, expected):
    assert expected in words(shown(*comparison_lines(look(sent_back, interval=interval))))


def test_a_measure_without_means_is_left_out(sent_back):
    means = {arm: {"sparse_return": 1.5, "progress": None} for arm in ("control", "candidate")}
    said = words(shown(*comparison_lines(look(sent_back, means=means))))
    assert "; sparse return 1.5 against 1.5" in said and ", progress" not in said


def test_hostile_reasons_are_inert(sent_back):
    found = chain(sent_back)
    choices = [dataclasses.replace(each, title=f"{each.title}\x1b[31m[bold]x[/bold]\u202e") for each in found.choices]
    text = shown(render_decision(dataclasses.replace(found, choices=choices)))
    assert all(each == "\n" or each.isprintable() for each in text)
    assert "[bold]x[/bold]" in text


def test_pairs_are_told_as_before(tmp_path):
    """Negative control: nothing of a trial is said of the gate of version 0.1."""
    with ScriptedSession(tmp_path, by_arm(SCREEN | {("confirm", "c1"): 0.03}), settings=PAIRED) as session:
        session.judged(*POTENTIALS)
        session.call("promote", candidate="c1", reason="It passed.")
        said = words(shown(render_decision(chain(session))))
    assert "Chosen to be confirmed" not in said and "order:" not in said
    assert "Confirmation: progress on fresh paired seeds" in said and "over 5 pairs; passes above delta 0.005" in said
    assert "mean progress against control: c1 +0.02, c3 +0.015, c2 +0.01 → c1 goes on" in said
