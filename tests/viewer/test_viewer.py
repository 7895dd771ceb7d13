"""The viewer shows what the ledger holds, fits its screen, and lets no agent's text act on the terminal."""

from __future__ import annotations

import dataclasses
import io
import random
import re
import sqlite3
from pathlib import Path
from types import SimpleNamespace
from typing import get_args

import pytest
from rich.console import Console

from learning_signal.ledger.read.checks.checked import Checked
from learning_signal.ledger.read.decision.explain import explain
from learning_signal.ledger.read.events.search import search
from learning_signal.ledger.read.forecasts import Bin, ForecastRecord
from learning_signal.ledger.read.reader import Reader
from learning_signal.marl.gate.judge import Mode
from learning_signal.marl.gate.judges import judge_of
from learning_signal.viewer.forecasts import render_forecasts
from learning_signal.viewer.live.board import Arm, Board
from learning_signal.viewer.live.story import spoken, tone
from learning_signal.viewer.live.view import LiveView, PlainView
from learning_signal.viewer.reports.catalogue import render_backends, render_check, render_tasks
from learning_signal.viewer.reports.explain import render_decision
from learning_signal.viewer.reports.log import render_findings, render_hits, render_sessions
from learning_signal.viewer.reports.plan import render_plan
from learning_signal.viewer.reports.session_end import render_report
from learning_signal.viewer.text import (
    bar,
    clean,
    count,
    difference_bar,
    duration,
    number,
    shaping_line,
    shorten,
    sparkline,
)
from learning_signal.viewer.transcript.lines import render_lines
from learning_signal.viewer.transcript.story import render_events, render_turns
from tests.support.recorded_ledger import RECORDED_ID, recorded_ledger

HOSTILE = "\x1b[31mred\x1b[0m \x1b]0;title\x07 \x9b2J [bold]m[/bold] [/] \u202egnp.exe \x08\x00end\rover"


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return recorded_ledger(tmp_path_factory.mktemp("ledger") / "ledger.db")


def shown(renderable, width: int = 100) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None, highlight=False)
    console.print(renderable)
    return console.file.getvalue()


def fits(text: str, width: int = 100) -> bool:
    return max(len(line) for line in text.splitlines()) <= width


def explained(path: Path, decision: str) -> str:
    with Reader.open(path) as reader:
        return shown(render_decision(explain(reader, decision)))


# text ---------------------------------------------------------------------------------------------------------


def test_clean_removes_what_could_act_on_a_terminal_and_keeps_the_words():
    assert clean(HOSTILE) == "red [bold]m[/bold] [/] gnp.exe end over"
    assert clean("a\tb\r\nc", lines=True) == "a b\nc"
    assert clean("Übergröße → ✓ 覚") == "Übergröße → ✓ 覚"


def test_clean_leaves_no_control_character_of_any_input():
    generator = random.Random(0)
    alphabet = [*map(chr, range(0, 0xA0)), "\u200b", "\u202e", "\u2028", "\u2066", "\x1b[", "\x1b]", "\x9d"]
    for _ in range(500):
        text = clean("".join(generator.choices(alphabet, k=40)), lines=True)
        assert all(character == "\n" or character.isprintable() for character in text)


def test_missing_is_a_dash_and_never_zero():
    assert {number(None), count(None), duration(None), shaping_line(None)} == {"-"}
    assert number(0.0) == "0" and count(0) == "0"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (59.9, "59.9 s"), (59.96, "1 min"), (185, "3 min 5 s"), (7600, "2 h 6 min 40 s")],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_small_graphs():
    assert sparkline([0, 1, None, 0.5]) == "▁█ ▅"
    assert sparkline([]) == "" and sparkline([3, 3]) == "▁▁"
    assert bar(0.5, 4) == "██  " and bar(0, 2) == "  " and bar(2, 2) == "██"
    assert difference_bar(-1.0, 2.0, 4).plain == "  ██│    "
    assert difference_bar(2.0, 2.0, 4).plain == "    │████"
    assert difference_bar(None, 2.0, 4).plain == "    │"
    assert shorten("a b" * 50, 10) == "a ba ba b…"


def test_a_shaping_reads_on_one_line():
    term = {"potential": "a*b", "weight": -1.0, "scope": "agent"}
    text = shaping_line({"beta": 2.0, "anneal": {"start": 0, "end": 5000}, "terms": [term]})
    assert text == "beta 2.0 falling to 0 over env steps 0 to 5000: -1.0*(a*b) (agent)"
    assert shaping_line({"beta": 0, "terms": [term]}) == "no shaping"
    assert shaping_line({"beta": 2.0, "terms": [{"potential": HOSTILE}]}) == (
        "beta 2.0: -*(red [bold]m[/bold] [/] gnp.exe end over) (-)"
    )


# the log ------------------------------------------------------------------------------------------------------


def test_sessions_are_listed_with_their_decisions(ledger):
    with Reader.open(ledger) as reader:
        text, wide = (shown(render_sessions(reader.sessions()), width) for width in (100, 120))
    assert RECORDED_ID in text and "2 promoted" in text and "spread" in text and fits(text)
    assert "2 promoted, 1 kept, 1 rolled back" in wide and "interrupted" in wide
    assert "no session yet" in shown(render_sessions([]))


def test_only_a_session_whose_gate_tests_nothing_is_called_ungated(ledger):
    with Reader.open(ledger) as reader:
        row = reader.session()
    assert row.gate_mode == "sequential" and row.promoted
    for mode in get_args(Mode):
        line = shown(render_sessions([dataclasses.replace(row, gate_mode=mode)]))
        assert ("ungated" in line) == (not judge_of(mode).tests), mode


def test_events_are_one_line_each_and_bodies_come_on_request(ledger):
    with Reader.open(ledger) as reader:
        row, events = reader.session(), reader.events(round=1)
        brief = shown(render_lines(row, events))
        full = shown(render_events(row, list(reader.entries(events))))
    trained, played = row.env_steps_main + row.env_steps_branches, row.evaluation_env_steps
    assert f"{trained:,} env steps of training, {played:,} of evaluation" in " ".join(brief.split())
    assert "query_metrics" in brief and "promote c1" in brief and fits(brief) and fits(full)
    assert "source: main" not in brief and "source: main" in full and '{"evidence"' not in full
    assert "No event fits" in shown(render_lines(row, []))


def test_search_hits_show_where_and_what(ledger):
    with Reader.open(ledger) as reader:
        text = shown(render_hits("coverage", search(reader, "coverage")))
    assert "«coverage»" in text and "generator" in text and RECORDED_ID in text and fits(text)
    assert "Nothing in the log" in shown(render_hits("[zebra]", []))


def test_findings(ledger):
    finding = SimpleNamespace(table="bodies", row="abc", problem="was changed")
    counts = dict.fromkeys(
        ("rows", "links", "sessions", "events", "texts", "evaluations", "decisions", "statistics"), 3
    )
    checked = Checked(counts, ["One session began earlier."])
    assert "bodies abc: was changed" in shown(render_findings(ledger, [finding], [], checked))
    words = shown(render_findings(ledger, [], [], checked, ["The seal 0123 is that of session x."]))
    for expected in ("everything that was checked agrees", "rows 3", "Not checked: One", "The seal 0123"):
        assert expected in words


# one decision -------------------------------------------------------------------------------------------------


def test_a_promotion_explains_itself_in_full(ledger):
    text = explained(ledger, f"{RECORDED_ID}/R1")
    order = ["Diagnosis", "Proposals", "Screen", "Confirmation", "Verdict", "Decision", "Afterwards"]
    places = [text.index(f"\n{title}") for title in order]
    assert places == sorted(places)
    for part in (
        "promote c1",
        "round 1: first: no round has run yet",
        "[E1, E2]",
        "E2 summarize_trajectories",
        "c2 screened out",
        "c3 screened out",
        "has no sparse return for seed 1 of 1 (The worker died (signal 9, SIGKILL).)",
        "c1 +0 +0.0182",
        "at most 0.0% of an arm's episodes succeed, so progress decides",
        "validator confirmed c1, the first in the ranking",
        "won 16 of 16 pairs (4 of at most 6 branches of each arm; passes from 16 pairs on)",
        "difference of progress +0.0358",
        "p = 0.0143 at level 0.025",
        "delta 0.005",
        "progress 0.066 against 0.0302",
        "It is promoted as evidence of learning, on probation",
        "human approved by a person: worth a try",
        "no shaping",
        "-1.2*collisions (team)",
        "hash",
        "probation held",
    ):
        assert part in " ".join(text.split()), part
    assert re.search(
        r"\nCost\n +[\d,]+ env steps of training in 12 branch segments, [\d,]+ of evaluation \(that of 1 is", text
    )
    assert fits(text) and len(text.splitlines()) <= 120
    assert "…”" not in text, "no word of an agent is cut"


def test_a_kept_shaping_explains_itself_without_a_probation(ledger):
    text = explained(ledger, "R2")
    assert "keep" in text and "shaping stays" in text and "Afterwards" not in text and fits(text)
    words = " ".join(text.split())
    assert "Earlier confirmations c1: fail on progress: 0 of 1 pairs won" in words
    assert "inconclusive on progress" in words


def test_a_promotion_that_was_rolled_back_explains_both_rounds(ledger):
    promotion, undoing = (" ".join(explained(ledger, name).split()) for name in ("R3", "R4"))
    assert (
        "c1 rolled back" in promotion
        and "rolled back in round 4 claim by coordinator: “The last promotion did not hold" in promotion
    )
    assert "difference of sparse return +2.11" in promotion and "progress 0.384 against 0.264" in promotion
    assert "none: this round was opened to judge an earlier promotion" in undoing
    assert "Probation regressed: progress went from" in undoing and "roll back" in undoing


def test_a_round_whose_critic_gave_up_says_so_and_does_not_claim_to_judge_a_promotion(ledger):
    with Reader.open(ledger) as reader:
        chain = explain(reader, "R1")
    text = shown(render_decision(dataclasses.replace(chain, diagnosis=None)))
    assert "none: the Critic submitted no diagnosis" in text and "judge an earlier promotion" not in text


def test_evidence_that_does_not_exist_is_named(ledger):
    with Reader.open(ledger) as reader:
        chain = explain(reader, "R1")
    lost = dataclasses.replace(chain.diagnosis.evidence[0], tool=None, result=None)
    diagnosis = dataclasses.replace(chain.diagnosis, evidence=[lost])
    assert "no tool result of this session" in shown(render_decision(dataclasses.replace(chain, diagnosis=diagnosis)))


# untrusted text -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def hostile_ledger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recorded session with every body and every free text of an agent replaced by hostile text."""
    path = recorded_ledger(tmp_path_factory.mktemp("hostile") / "ledger.db")
    connection = sqlite3.connect(path)
    for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
        if not name.startswith("bodies_text"):
            connection.execute(f'DROP TRIGGER IF EXISTS "{name}"')
    for table, column in (
        ("events", "title"),
        ("verdicts", "reading"),
        ("verdicts", "reason"),
        ("decisions", "reason"),
        ("candidates", "rationale"),
        ("sessions", "task"),
        ("sessions", "stop_reason"),
    ):
        connection.execute(f"UPDATE {table} SET {column} = ?", (HOSTILE,))
    connection.execute(
        "UPDATE bodies SET body = ? WHERE hash IN (SELECT body FROM messages UNION SELECT result FROM tool_calls)",
        (HOSTILE,),
    )
    connection.commit()
    connection.close()
    return path


def test_hostile_text_is_inert_everywhere(hostile_ledger):
    with Reader.open(hostile_ledger) as reader:
        row, events = reader.session(), reader.events()
        entries = [reader.entry(each.seq) for each in events]
        texts = [
            shown(render_sessions(reader.sessions())),
            shown(render_events(row, entries)),
            shown(render_turns(row, entries)),
            shown(render_decision(explain(reader, "R1"))),
            shown(render_decision(explain(reader, "R2"))),
        ]
        for event, entry in zip(events, entries, strict=True):
            line = spoken(dataclasses.asdict(event), entry)
            texts.append("" if line is None else shown(line))
    for text in texts:
        assert all(character == "\n" or character.isprintable() for character in text)
    assert all("[bold]m[/bold]" in text for text in texts[1:4])


def test_the_check_for_hostile_text_has_teeth():
    assert not all(character == "\n" or character.isprintable() for character in HOSTILE)


# while a session runs -----------------------------------------------------------------------------------------


def events_of(path: Path) -> list[dict]:
    with Reader.open(path) as reader:
        return [dataclasses.asdict(each) for each in reader.events()]


def plain(path: Path | None, every: float = 3600.0) -> PlainView:
    return PlainView(Console(file=io.StringIO(), width=100), "spread, mappo", path, every=every)


def test_the_plain_view_writes_one_line_per_event_and_no_control_codes(ledger):
    view = plain(ledger)
    with view:
        for row in events_of(ledger):
            view.event(row)
    text = view.console.file.getvalue()
    assert "\x1b" not in text
    for part in ("Nobody scores", "diagnosis: exploring", "c1: pass on progress", "promote c1", "held", "→ E1"):
        assert part in text, part
    verdicts = [line for line in text.splitlines() if "verdict" in line or "▣ c1: pass on progress" in line]
    assert len(verdicts) == 1, "told by its event, and not by the tool call as well"
    assert "asks the validator: Would you promote c1?" in text and "◇ approved by a person: worth a try" in text
    assert "✗ critic called submit_diagnosis - refused: Found evidence id E7" in text
    assert "✗ screen c3 failed: The worker died" in text


def test_pending_and_quiet_events_are_not_shown():
    base = {"session_id": "s", "seq": 1, "round": 1, "agent": "critic", "title": "t", "kind": "tool_call"}
    assert spoken(base | {"status": "pending"}, None) is None
    assert spoken(base | {"kind": "llm_call", "status": "ok"}, None) is None
    assert spoken(base | {"kind": "message", "status": "ok", "agent": None}, None) is None
    assert "✗ t" in spoken(base | {"kind": "llm_call", "status": "error"}, None).plain


def test_outcomes_have_colours():
    assert "green" in tone("verdict", "ok", "pass for c1") and "red" in tone("verdict", "ok", "fail on progress")
    assert "yellow" in tone("verdict", "ok", "inconclusive") and "yellow" in tone("decision", "ok", "keep")
    assert "green" in tone("decision", "ok", "promote c1") and "red" in tone("decision", "ok", "roll_back c1")
    assert "red" in tone("decision", "ok", "rolled back R1, which was promoted")
    # The event's own outcome counts, whatever its title says first.
    assert "yellow" in tone("decision", "ok", "promote-c1 is not promoted: keep", "keep")
    assert "red" in tone("decision", "ok", "the promoted c1 goes", "roll_back")


def test_progress_lines_come_at_most_every_few_seconds():
    eager, patient = plain(None, every=0.0), plain(None)
    for view in (eager, patient):
        for done in range(5):
            view.progress("s1", "screen", "c1", done * 10, 100, {"sparse_return": None, "progress": 0.1})
    assert eager.console.file.getvalue().count("screen c1") == 5
    assert patient.console.file.getvalue() == ""  # not even the heading: nothing has been said


def test_the_board_follows_segments_and_forgets_them_after_the_decision():
    board = Board()
    board.progress("a", "screen", "c1", 50, 100, {"sparse_return": 1.0, "progress": None})
    arm = board.progress("b", "screen", "c1", 100, 100, {"sparse_return": 2.0, "progress": None})
    assert arm.share == 0.75 and arm.finished == 1
    assert arm.mean("sparse_return") == 1.5 and arm.mean("progress") is None
    board.event({"kind": "segment", "status": "error", "ref_id": "a", "session_id": "s"})
    assert arm.share == 1 and arm.failed == {"a"}
    board.event({"kind": "decision", "status": "ok", "session_id": "s"})
    assert board.arms == {} and board.session == "s"


def test_a_new_piece_of_the_main_run_takes_the_place_of_finished_rows():
    board = Board()
    board.progress("a", "main", "main", 100, 100, {})
    board.progress("b", "main", "main", 10, 100, {})
    assert list(board.arms[("main", "main")].done) == ["b"]
    assert Arm("main", "main").share == 0


def test_the_live_view_shows_header_bars_and_what_is_said(ledger):
    console = Console(file=io.StringIO(), width=100, force_terminal=True, color_system=None)
    with LiveView(console, "spread, mappo", ledger) as view:
        for env_steps, progress in ((64_000, 0.03), (96_000, 0.22)):
            view.stage(
                {
                    "round": 1,
                    "rounds": 3,
                    "phase": "validator",
                    "env_steps": env_steps,
                    "sparse_return": 0.5,
                    "progress": progress,
                    "stage": "emerging",
                    "shaping_text": "no shaping",
                }
            )
        for row in events_of(ledger):
            view.event(row)
        view.progress("s9", "confirm", "c1", 30, 60, {"sparse_return": 0.25, "progress": None})
        live = shown(view._render())
    text = console.file.getvalue()
    for part in ("round 1 of 3", "96,000 env steps", "sparse return 0.5", "▁█", "emerging", "confirm c1", "progress -"):
        assert part in live, part
    assert fits(live) and "promote c1" in text and "Nobody scores" in text


def test_an_event_whose_details_cannot_be_read_is_shown_by_its_title(tmp_path):
    view = plain(tmp_path / "missing.db")
    view.event(
        {
            "session_id": "s",
            "seq": 7,
            "round": 1,
            "agent": "critic",
            "title": "the title",
            "kind": "diagnosis",
            "status": "ok",
        }
    )
    assert "the title" in view.console.file.getvalue()


# the end, the plan, the catalogue -----------------------------------------------------------------------------

OUTCOME = {
    "session_id": "s1",
    "status": "done",
    "stop_reason": None,
    "ledger": "runs/ledger.db",
    "twin": None,
    "promoted": [
        {"round": 1, "candidate": "c1", "shaping_text": "beta 1", "outcome": "passed", "reason": "pass on progress"}
    ],
    "rejected": [
        {"round": 2, "candidate": "c2", "shaping_text": "beta 2", "outcome": "failed", "reason": "fail: worse"}
    ],
    "before": {"sparse_return": 0.0, "progress": 0.03, "env_steps": 64_000, "episodes": 256},
    "after": {
        "sparse_return": 3.5,
        "progress": None,
        "env_steps": 400_000,
        "episodes": 256,
        "total_env_steps": 900_000,
    },
    "costs": {
        "env_steps_main": 400_000,
        "env_steps_branches": 500_000,
        "evaluation_main": 76_800,
        "env_steps_reused": 0,
        "wall_seconds": 185.0,
        "compute_seconds": 300.0,
        "tokens_in": {"critic": 100},
        "tokens_out": {"critic": None},
        "llm_calls": 3,
        "cost_usd": None,
    },
    "final_policy": "runs/s1/policy.pt",
    "final_shaping": None,
}


def test_the_report_says_what_changed_what_it_brought_and_what_to_type_next():
    text = shown(render_report(OUTCOME, [("why", "python run.py explain s1/R1")]))
    for part in (
        "Session s1 done",
        "promoted",
        "rejected (failed)",
        "fail: worse",
        "at the first deliberation",
        "3.5",
        "400,000",
        "500,000",
        "total env steps of training",
        "Env steps (training + evaluation): main run 400,000 + 76,800, branches 500,000 + -",
        "Time: 3 min 5 s",
        "critic 100 + -",
        "runs/s1/policy.pt",
        "python run.py explain s1/R1",
    ):
        assert part in text, part
    assert "sparse twin" not in text and fits(text)


def test_evaluation_that_nobody_counted_is_said_and_a_limit_says_what_it_limits():
    more = {"env_steps_twin": 900_000, "evaluation_twin": 150_000, "evaluation_unknown": 2}
    budget = {"env_steps": {"spent": 900_000, "limit": 5_000_000}}
    outcome = OUTCOME | {"costs": OUTCOME["costs"] | more, "budget": budget}
    text = " ".join(shown(render_report(outcome, [])).split())
    assert "sparse twin 900,000 + 150,000; the evaluation of 2 segments is unknown" in text
    assert "900 k env steps of 5 M env steps (training; evaluation is not limited)" in text


def test_the_twin_has_a_column_of_its_own_and_an_early_end_is_said():
    outcome = OUTCOME | {
        "twin": {"sparse_return": 0.004, "progress": 0.02},
        "status": "paused",
        "stop_reason": "Paused on request.",
        "before": None,
        "after": None,
        "promoted": [],
        "rejected": [],
    }
    text = shown(render_report(outcome, []))
    assert "sparse twin" in text and "0.004" in text and "paused: Paused on request." in text
    assert "No change was promoted" in text


def test_the_report_says_where_it_is_measured_on_episodes_that_a_gate_used():
    told = "Measured on the confirm episodes where an earlier version trained it"
    assert told not in shown(render_report(OUTCOME, []))
    assert told not in shown(render_report(OUTCOME | {"before": OUTCOME["before"] | {"episode_set": "report"}}, []))
    assert told in shown(render_report(OUTCOME | {"before": OUTCOME["before"] | {"episode_set": "confirm"}}, []))


def test_the_report_tells_the_record_of_the_forecasts():
    record = {"role": "generator", "backend": "rules", "n": 3, "unscored": 1, "brier": 0.19, "calibration": ()}
    told = "Forecasts: generator, 3 scored, Brier score 0.19 (always saying 0.5: 0.25)"
    assert told in shown(render_report(OUTCOME | {"forecasts": [record]}, []))
    for nothing in ([], [record | {"n": 0, "brier": None}]):
        assert "Forecasts" not in shown(render_report(OUTCOME | {"forecasts": nothing}, []))


def test_explain_shows_a_forecast_beside_what_was_measured(ledger):
    with Reader.open(ledger) as reader:
        candidates = explain(reader, "R1").candidates
    text = " ".join(explained(ledger, "R1").split())
    for candidate in candidates:
        forecast = f"forecast: progress +0.01, {number(candidate.forecast_probability)} sure"
        unmeasured = candidate.difference is None
        assert (f"{forecast} →" in text, forecast in text) == (not unmeasured, True)
        assert unmeasured or f"{forecast} → {number(candidate.difference, sign=True)}" in text
    assert {each.measured_by for each in candidates} == {"confirm", "screen", None}


def test_the_record_of_every_backend_is_a_line_of_a_table():
    bins = (Bin(1 / 3, 2 / 3, 4, 0.5, 0.75),)
    records = [
        ForecastRecord("generator", "rules", 4, 2, 0.2, bins),
        ForecastRecord("generator", "a\x1b[31mb", 0, 1, None, ()),
    ]
    text = shown(render_forecasts(records, 2))
    assert "0.5 → 0.75 (n 4)" in text and "0.2" in text and "2 sessions" in text and "\x1b[31m" not in text
    assert "no forecast yet" in shown(render_forecasts([], 0))


def test_a_plan_shows_nested_values_and_tables():
    plan = {
        "rounds": 3,
        "env_steps": {"stage": 201_600},
        "agents": [{"role": "critic", "backend": "rules", "from": "default"}],
        "budget": {},
    }
    text = shown(render_plan(plan))
    assert "Dry run" in text and "201,600" in text and "critic" in text and fits(text)
    assert re.search(r"budget +-", text)


def test_tasks_and_backends_are_listed():
    spec = {
        "name": "reach",
        "description": "one agent",
        "sparse_reward": "1 at the goal",
        "progress": None,
        "agents": 2,
        "actions": 5,
        "horizon": 25,
        "max_return": 25.0,
        "features": [
            {"name": "gap", "description": "how far", "scope": "team", "low": 0.0, "high": 3.0, "direction": "lower"},
            {"name": "pace", "description": "how fast", "scope": "agent", "low": 0.0, "high": 3.0, "direction": None},
        ],
    }
    text = shown(render_tasks([spec]))
    assert "reach" in text and "lower" in text and "0 to 3" in text and "pace" in text and fits(text)
    assert "2 agents, 5 actions" in text and "sparse return at most 25" in text
    groups = [{"name": "wolves", "agents": [0, 1]}, {"name": "sheep", "agents": [2]}]
    foreign = shown(render_tasks([{**spec, "agents": 3, "max_return": None, "continuous": True, "groups": groups}]))
    assert fits(foreign) and "at most" not in foreign
    words = " ".join(foreign.split())
    assert "3 agents (2 wolves, 1 sheep), 5 numbers per action" in words
    assert "the largest sparse return is not known" in words
    text = shown(render_backends([{"provider": "rules", "installed": True, "key": None}]))
    assert "rules" in text and "yes" in text and "-" in text
    assert "failed" in shown(render_check("ollama/x", {"ok": False, "sentence": "cannot be reached"}))
