"""Reading: sessions, costs, the story, entries, segments; without torch or autogen."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from learning_signal.ledger.errors import LedgerError
from learning_signal.ledger.read.reader import Reader
from learning_signal.ledger.write.writer import Ledger
from tests.support.ledger_helpers import begin, seconds_ago, tamper
from tests.support.places import ROOT
from tests.support.recorded_ledger import RECORDED_ID


def test_sessions_are_found_by_prefix_and_strangers_get_the_nearest(written: Ledger) -> None:
    recorded = Reader.open(written.path)
    assert recorded.session("2026").id == recorded.session("latest").id == RECORDED_ID
    begin(written, id="20261123-101010-abc")
    with pytest.raises(LedgerError, match="fits 2 sessions"):
        recorded.session("2026112")
    assert recorded.session("20261123").id == "20261123-101010-abc"
    with pytest.raises(LedgerError, match=f"no session '20261122-154501-k3x'; the nearest are {RECORDED_ID}"):
        recorded.session("20261122-154501-k3x")
    assert len(recorded.sessions(limit=1)) == 1


def test_an_empty_ledger_says_so(ledger: Ledger) -> None:
    with Reader.open(ledger.path) as reader, pytest.raises(LedgerError, match="has no session yet"):
        reader.session()


def test_a_session_row_counts_every_env_step_once(recorded: Reader) -> None:
    row = recorded.session()
    assert (row.rounds, row.promoted, row.kept, row.rolled_back) == (5, 2, 1, 1)
    # main: five stages, of which the first was reused, and three branches that HEAD went on from
    assert (row.env_steps_main, row.env_steps_reused) == (4 * 600 + 3 * 400, 600)
    # four screens of four arms, of which two share their control and one segment failed halfway; four confirmations of
    # 4, 1, 2 and 5 looks at both arms, less those three; and the control of the last round, which started early
    screens, confirmations, early = 4 * 4 * 200 - 200 - 100, (4 + 1 + 2 + 5) * 2 * 400 - 3 * 400, 200 + 400
    assert row.env_steps_branches == screens + confirmations + early
    sums = recorded.rows("SELECT sum(tokens_in) tokens_in, sum(tokens_out) tokens_out FROM llm_calls")[0]
    assert (row.tokens_in, row.tokens_out) == (sums["tokens_in"], sums["tokens_out"])
    assert row.status == "interrupted"


def test_the_twin_is_neither_main_run_nor_branch(written: Ledger) -> None:
    written.close()
    with Reader.open(written.path) as reader:
        before, (last,) = reader.costs(), reader.rows("SELECT id FROM segments ORDER BY rowid DESC LIMIT 1")
    tamper(written.path, f"UPDATE segments SET purpose = 'twin' WHERE id = '{last['id']}' AND env_steps = 400")
    with Reader.open(written.path) as reader:
        after = reader.costs()
    assert (before.env_steps_twin, after.env_steps_twin) == (0, 400)
    assert after.env_steps_branches == before.env_steps_branches - 400


def test_a_running_session_whose_process_is_gone_is_interrupted(ledger: Ledger) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    ours, theirs, stale = (begin(ledger, id=f"20261123-101010-{name}") for name in ("our", "the", "sta"))
    ledger.complete("sessions", ours, pid=gone.pid)
    ledger.complete("sessions", theirs, host="another-host", heartbeat_at=seconds_ago(50))
    ledger.complete("sessions", stale, host="another-host", heartbeat_at=seconds_ago(70))
    with Reader.open(ledger.path) as reader:
        status = {row.id: row.status for row in reader.sessions()}
    assert status == {ours: "interrupted", theirs: "running", stale: "interrupted"}


def test_costs_do_not_invent_a_price(recorded: Reader) -> None:
    costs = recorded.costs()
    assert costs.cost_usd is None
    critic = costs.agents["critic"]
    assert (critic.llm_calls, critic.failed_calls, critic.tokens_in, critic.tokens_out) == (10, 1, 9 * 11, 9 * 7)
    assert critic.cost_usd is None and costs.agents["validator"].cost_usd == 0.0
    computed = [each for each in recorded.segments().values() if each.status == "ok" and not each.reused]
    assert costs.compute_seconds == pytest.approx(0.001 * len(computed))


def test_costs_without_any_model_call_are_unknown_not_zero(ledger: Ledger, session: str) -> None:
    with Reader.open(ledger.path) as reader:
        costs = reader.costs(session)
    assert (costs.llm_calls, costs.tokens_in, costs.tokens_out, costs.cost_usd) == (0, None, None, None)


def test_events_are_filtered_and_continue_where_one_stopped(recorded: Reader) -> None:
    events = recorded.events()
    assert [event.seq for event in events] == sorted(event.seq for event in events)
    assert recorded.events(after_seq=events[4].seq, limit=2) == events[5:7]
    chosen = recorded.events(agent="critic", round=1, kind="tool_call")
    assert [(event.title.partition(" - ")[0], event.status) for event in chosen] == [
        *[("critic called query_metrics", "ok"), ("critic called summarize_trajectories", "ok")] * 2,  # by code first
        ("critic called submit_diagnosis", "refused"),
        ("critic called submit_diagnosis", "ok"),
    ]


def test_the_story_has_what_was_said_called_and_answered(recorded: Reader) -> None:
    entries = [recorded.entry(event.seq) for event in recorded.events(agent="critic", round=1)]
    assert "Nobody scores" in next(entry.messages[0]["body"] for entry in entries if entry.messages)
    calls = [call for entry in entries for call in entry.tool_calls]
    call, again = (call for call in calls if call["name"] == "summarize_trajectories")
    assert json.loads(again["result"])["same_as"] == call["evidence_id"]
    assert (call["arguments"], call["evidence_id"], json.loads(call["result"])["evidence"]) == ("{}", "E2", "E2")
    running = recorded.entry(recorded.events(round=5)[-1].seq)
    assert (running.event.status, running.tool_calls[0]["name"]) == ("pending", "query_metrics")
    assert running.tool_calls[0]["result"] is None


def test_an_entry_has_every_body(recorded: Reader) -> None:
    failed, fine, *_ = recorded.events(kind="llm_call")
    call = recorded.entry(failed.seq).llm_calls[0]
    assert "is limiting the rate of requests (HTTP 429: slow down)" in call["error"] and call["reply"] is None
    prompt, told = call["context"]
    assert json.loads(prompt)["content"] == next(each.prompt for each in recorded.agents() if each.role == "critic")
    assert json.loads(told)["content"].startswith("Diagnose this run.")
    assert json.loads(recorded.entry(fine.seq).llm_calls[0]["reply"])["content"].startswith("Nobody scores")
    decision = recorded.events(kind="decision")[0]
    assert recorded.entry(decision.seq).reference["action"] == "promote"
    with pytest.raises(LedgerError, match="no entry 999"):
        recorded.entry(999)


def test_the_lineage_of_head_and_its_moves(recorded: Reader) -> None:
    moves, lineage = recorded.main_run(), recorded.lineage()
    assert [move.reason for move in moves] == (
        ["stage", "promote", "stage", "keep", "stage", "promote", "stage", "roll_back", "stage"]
    )
    held = [*moves[:5], moves[8]]  # what was promoted in between was rolled back
    assert [segment.id for segment in lineage] == [move.segment.id for move in held]
    assert [segment.parent for segment in lineage] == [None, *(segment.id for segment in lineage[:-1])]
    assert sum(segment.env_steps for segment in lineage) == lineage[-1].end_env_steps


@pytest.mark.parametrize(("trained", "extra"), [(100, 100), (150, 150), (0, 0), (None, 0)])
def test_a_segment_that_failed_costs_what_it_had_trained(written: Ledger, trained: int | None, extra: int) -> None:
    path = written.path
    written.close()

    def spent() -> tuple[int, int, int, int]:
        with Reader.open(path) as reader:
            row, costs = reader.session(RECORDED_ID), reader.costs(RECORDED_ID)
            total = sum(segment.cost for segment in reader.segments(RECORDED_ID).values())
            assert row.env_steps_branches == costs.env_steps_branches
            return costs.env_steps_main, costs.env_steps_branches, costs.env_steps_reused, total

    main, branches, reused, total = spent()
    tamper(path, "UPDATE segments SET status = 'pending', trained = NULL WHERE status = 'error'")
    running = main, branches - 100, reused, total - 100
    assert spent() == running  # negative control: what is still running has cost nothing that is known
    known = "NULL" if trained is None else str(trained)
    tamper(path, f"UPDATE segments SET status = 'error', trained = {known} WHERE status = 'pending'")
    main, branches, reused, total = running
    assert spent() == (main, branches + extra, reused, total + extra)
    with Reader.open(path) as reader:
        (dead,) = (each for each in reader.segments(RECORDED_ID).values() if each.status == "error")
        assert (dead.trained, dead.cost, dead.env_steps) == (trained, extra, 200)
        assert reader.lineage()[-1].cost == 600


def test_metrics_by_name_and_window(recorded: Reader) -> None:
    def values(name: str, low: int, high: int) -> list[tuple[int, float | None]]:
        rows = recorded.rows(
            "SELECT env_steps, value FROM metrics WHERE segment_id = ? AND name = ? AND env_steps BETWEEN ? AND ? "
            "ORDER BY env_steps",
            (recorded.lineage()[0].id, name, low, high),
        )
        return [(row["env_steps"], row["value"]) for row in rows]

    skill = pytest.approx(0.0266, abs=1e-4)
    assert values("entropy", 300, 600) == [(400, skill), (600, skill)]
    assert {value for _, value in values("epsilon", 0, 10**9)} == {None}


def test_agents_and_config(recorded: Reader) -> None:
    agents = {agent.role: agent for agent in recorded.agents()}
    assert (agents["critic"].spec, agents["critic"].source) == ("openai/gpt-4.1?temperature=0", "command line")
    assert (agents["generator"].spec, agents["generator"].source) == ("rules", "default")
    offered = [tool["name"] for tool in agents["generator"].tools]
    behaviour = ["summarize_trajectories", "show_episode", "preview_shaping"]
    assert offered == ["query_metrics", *behaviour, "submit_proposal"]
    assert recorded.config()["gate"]["alpha"] == 0.05


def test_reading_a_log_imports_neither_torch_nor_autogen() -> None:
    code = (
        "import sys, learning_signal.ledger.read.reader, learning_signal.ledger.read.verify\n"
        "import learning_signal.ledger.write.writer\n"
        "print([name for name in sys.modules "
        "if name.split('.')[0] in ('torch', 'pettingzoo') or 'autogen' in name])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
