"""Reading: sessions, costs, the story, entries, segments; without torch or autogen."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from learning_signal.ledger.errors import LedgerError
from learning_signal.ledger.read.reader import Reader
from learning_signal.ledger.write.writer import Ledger
from tests.support.ledger_helpers import begin, seconds_ago
from tests.support.ledger_samples import SAMPLE_ID
from tests.support.places import ROOT


def test_sessions_are_found_by_prefix_and_strangers_get_the_nearest(written: Ledger) -> None:
    sample = Reader.open(written.path)
    assert sample.session("2026").id == sample.session("latest").id == SAMPLE_ID
    begin(written, id="20261123-101010-abc")
    with pytest.raises(LedgerError, match="fits 2 sessions"):
        sample.session("2026112")
    assert sample.session("20261123").id == "20261123-101010-abc"
    with pytest.raises(LedgerError, match=f"no session '20261122-154501-k3x'; the nearest are {SAMPLE_ID}"):
        sample.session("20261122-154501-k3x")
    assert len(sample.sessions(limit=1)) == 1


def test_an_empty_ledger_says_so(ledger: Ledger) -> None:
    with Reader.open(ledger.path) as reader, pytest.raises(LedgerError, match="has no session yet"):
        reader.session()


def test_a_session_row_counts_every_env_step_once(sample: Reader) -> None:
    row = sample.session()
    assert (row.rounds, row.promoted, row.kept, row.rolled_back) == (3, 1, 1, 0)
    # main: s0, the promoted branch, s1, s2; one screen segment was reused and one failed
    assert (row.env_steps_main, row.env_steps_reused) == (64_000 + 3 * 16_000, 8_000)
    assert row.env_steps_branches == 6 * 8_000 + 19 * 16_000
    assert (row.tokens_in, row.tokens_out, row.status) == (850, 120, "running")


def test_the_twin_is_neither_main_run_nor_branch(written: Ledger) -> None:
    sample = Reader.open(written.path)
    before = sample.costs()
    segment = {"shaping": {}, "seed": 0, "env_steps": 5, "status": "ok", "reused": 0}
    written.add("segments", session_id=SAMPLE_ID, id="t", purpose="twin", **segment)
    after = sample.costs()
    assert (after.env_steps_twin, after.env_steps_branches) == (5, before.env_steps_branches)


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


def test_costs_do_not_invent_a_price(sample: Reader) -> None:
    costs = sample.costs()
    assert costs.cost_usd is None
    critic = costs.agents["critic"]
    assert (critic.llm_calls, critic.failed_calls, critic.tokens_in, critic.tokens_out) == (2, 1, 850, 120)
    assert costs.compute_seconds == pytest.approx(0.5 * 29)


def test_costs_without_any_model_call_are_unknown_not_zero(ledger: Ledger, session: str) -> None:
    with Reader.open(ledger.path) as reader:
        costs = reader.costs(session)
    assert (costs.llm_calls, costs.tokens_in, costs.tokens_out, costs.cost_usd) == (0, None, None, None)


def test_events_are_filtered_and_continue_where_one_stopped(sample: Reader) -> None:
    events = sample.events()
    assert [event.seq for event in events] == sorted(event.seq for event in events)
    assert sample.events(after_seq=events[4].seq, limit=2) == events[5:7]
    chosen = sample.events(agent="critic", round=1, kind="tool_call")
    assert [event.title for event in chosen] == ["query_metrics", "summarize_trajectories", "submit_diagnosis"]


def test_the_story_has_what_was_said_called_and_answered(sample: Reader) -> None:
    entries = [sample.entry(event.seq) for event in sample.events(agent="critic", round=1)]
    assert "Nobody scores" in next(entry.messages[0]["body"] for entry in entries if entry.messages)
    calls = [call for entry in entries for call in entry.tool_calls]
    (call,) = (call for call in calls if call["name"] == "summarize_trajectories")
    assert (call["arguments"], call["evidence_id"], json.loads(call["result"])["evidence"]) == ("{}", "E2", "E2")
    running = sample.entry(sample.events(round=3)[-1].seq)
    assert (running.event.status, running.tool_calls[0]["name"]) == ("pending", "query_metrics")
    assert running.tool_calls[0]["result"] is None


def test_an_entry_has_every_body(sample: Reader) -> None:
    failed, fine = sample.events(kind="llm_call")
    call = sample.entry(failed.seq).llm_calls[0]
    assert (call["error"], call["reply"]) == ("429 Too Many Requests", None)
    assert call["context"] == ["You are the critic.", "Diagnose round 1."]
    assert json.loads(sample.entry(fine.seq).llm_calls[0]["reply"]) == {"content": "Nobody scores."}
    decision = sample.events(kind="decision")[0]
    assert sample.entry(decision.seq).reference["action"] == "promote"
    with pytest.raises(LedgerError, match="no entry 999"):
        sample.entry(999)


def test_the_lineage_of_head_and_its_moves(sample: Reader) -> None:
    assert [segment.id for segment in sample.lineage()] == ["s0", "confirm1c10", "s1", "s2"]
    assert [move.reason for move in sample.main_run()] == ["stage", "promote", "stage", "stage"]
    assert sum(segment.env_steps for segment in sample.lineage()) == sample.lineage()[-1].end_env_steps


@pytest.mark.parametrize(("trained", "extra"), [(3_000, 3_000), (0, 0), (None, 0)])
def test_a_segment_that_failed_costs_what_it_had_trained(written: Ledger, trained: int | None, extra: int) -> None:
    def spent() -> tuple[int, int, int, int]:
        with Reader.open(written.path) as reader:
            row, costs = reader.session(SAMPLE_ID), reader.costs(SAMPLE_ID)
            total = sum(segment.spent for segment in reader.segments(SAMPLE_ID).values())
            assert row.env_steps_branches == costs.env_steps_branches
            return costs.env_steps_main, costs.env_steps_branches, costs.env_steps_reused, total

    before = spent()
    segment = {"session_id": SAMPLE_ID, "shaping": {}, "seed": 0, "env_steps": 8_000}
    written.add("segments", id="running", status="pending", started_at="2020-01-01T00:00:00", **segment)
    assert spent() == before  # negative control: what is still running has cost nothing that is known
    written.add("segments", id="dead", status="pending", started_at="2020-01-01T00:00:00", **segment)
    written.complete(
        "segments",
        (SAMPLE_ID, "dead"),
        status="error",
        reason="the worker died",
        trained=trained,
        ended_at="2020-01-01T00:00:01",
    )
    main, branches, reused, total = before
    assert spent() == (main, branches + extra, reused, total + extra)
    with Reader.open(written.path) as reader:
        dead = reader.segments(SAMPLE_ID)["dead"]
        assert (dead.trained, dead.spent, dead.env_steps) == (trained, extra, 8_000)
        assert reader.segments(SAMPLE_ID)["s1"].spent == 16_000


def test_metrics_by_name_and_window(sample: Reader) -> None:
    def values(name: str, low: int, high: int) -> list[tuple[int, float | None]]:
        rows = sample.rows(
            "SELECT env_steps, value FROM metrics WHERE segment_id = 's0' AND name = ? AND env_steps BETWEEN ? AND ? "
            "ORDER BY env_steps",
            (name, low, high),
        )
        return [(row["env_steps"], row["value"]) for row in rows]

    assert values("entropy", 32_000, 48_000) == [(32_000, pytest.approx(1.4)), (48_000, pytest.approx(1.3))]
    assert {value for _, value in values("sparse_return", 0, 10**9)} == {None}


def test_agents_and_config(sample: Reader) -> None:
    agents = {agent.role: agent for agent in sample.agents()}
    assert (agents["critic"].spec, agents["critic"].source) == ("openai/gpt-x", "command line")
    assert agents["generator"].tools[0]["name"] == "submit_diagnosis"
    assert sample.config()["gate"]["alpha"] == 0.05


def test_reading_a_log_imports_neither_torch_nor_autogen() -> None:
    code = (
        "import sys, learning_signal.ledger.read.reader, learning_signal.ledger.read.verify\n"
        "import learning_signal.ledger.write.writer\n"
        "print([name for name in sys.modules "
        "if name.split('.')[0] in ('torch', 'pettingzoo') or 'autogen' in name])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
