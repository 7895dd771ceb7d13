"""The benchmarks run and print what they say; the numbers of the learning table are the ones that were measured."""

from __future__ import annotations

import importlib
import json
import os
import sys
from concurrent.futures import Future
from pathlib import Path
from xml.dom import minidom

import pytest
import torch

from bench import faults, learning, memory, reference_loop, replies, segments, tasks, tokens
from bench.learning import Row, Sizes
from bench.support import answers, devices
from bench.support.plot import Curve, Point, draw
from bench.support.readme import command_of, put
from learning_signal.marl.segments.records import Evaluation
from learning_signal.marl.segments.segment import SegmentResult, SegmentStore
from learning_signal.marl.segments.training import run_segment
from learning_signal.marl.settings import LearnerSettings
from tests.support.places import ROOT

EASY = "Foraging-8x8-2p-2f-coop-v3"


@pytest.fixture(autouse=True)
def _one_thread():
    """Benchmarks set torch's threads; other tests get theirs back."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def reference(package: str) -> None:
    """A reference package is a development dependency: its absence fails in CI and skips elsewhere."""
    if os.environ.get("CI"):
        importlib.import_module(package)
    pytest.importorskip(package)


def output_of(module, arguments: list[str], monkeypatch, capsys) -> str:
    """What a benchmark prints, run in this process."""
    monkeypatch.setattr(sys, "argv", [module.__name__, *arguments])
    module.main()
    return capsys.readouterr().out


class _Here:
    """Has the ``submit`` of a pool; computes in this process, and dies after so many segments."""

    def __init__(self, store: Path, lives: int = 10**6) -> None:
        self.store, self.lives = SegmentStore(store), lives

    def submit(self, spec) -> Future:
        self.lives -= 1
        if self.lives < 0:
            raise RuntimeError("killed")
        future: Future = Future()
        future.set_result(run_segment(spec, self.store))
        return future


@pytest.mark.parametrize("name", sorted(path.stem for path in (ROOT / "bench").glob("[a-z]*.py")))
def test_every_benchmark_says_what_it_measures(name: str, monkeypatch, capsys) -> None:
    module = importlib.import_module(f"bench.{name}")
    with pytest.raises(SystemExit) as ended:
        output_of(module, ["--help"], monkeypatch, capsys)
    assert ended.value.code == 0 and "usage: " in capsys.readouterr().out


# --- bench.tasks and bench.reference_loop ---


def test_tasks_prints_a_table_of_rates_and_ratios(monkeypatch, capsys) -> None:
    reference("lbforaging")
    quick = ["--quick", "--tasks", EASY, "--environments", "64", "512"]
    rows = json.loads(output_of(tasks, [*quick, "--json"], monkeypatch, capsys))
    assert [row["environments"] for row in rows] == [64, 512] and [row["target"] for row in rows] == [None, 200_000]
    for row in rows:
        assert row["peer"] == "lbforaging" and min(row["peer_env_steps_per_second"], row["env_steps_per_second"]) > 0
    shown = output_of(tasks, [*quick[:3], "--environments", "512"], monkeypatch, capsys)
    assert EASY in shown and "200 k, 20x: " in shown


@pytest.mark.slow
def test_tasks_is_faster_than_the_reference(monkeypatch, capsys) -> None:
    reference("lbforaging")
    arguments = ["--quick", "--tasks", EASY, "--environments", "64", "512", "--json"]
    for row in json.loads(output_of(tasks, arguments, monkeypatch, capsys)):
        assert 100 < row["peer_env_steps_per_second"] < row["env_steps_per_second"]


@pytest.mark.parametrize("name", ["spread", "pursuit", "Foraging-10x10-3p-3f-v3", "rware-tiny-2ag-v2"])
def test_both_sides_play_the_same_game(name: str) -> None:
    """Agents, actions and observations are as many as in ours, but for the evader, which ours moves itself."""
    reference(tasks.peer_of(name))
    peer, spec = tasks.Reference(name), tasks.make_task(name, 1).spec
    assert (peer.agents - (name == "pursuit"), peer.actions) == (spec.agents, spec.actions)
    observations, _, ended = peer.step([0] * peer.agents)
    assert not ended and observations[0].size == spec.observation_size


def test_a_target_missed_is_said() -> None:
    """Negative control: a slow task does not meet its target."""
    row = {
        "task": "spread",
        "environments": 512,
        "env_steps_per_second": 1.0,
        "peer": "mpe2",
        "target": 300_000,
        "peer_env_steps_per_second": 1.0,
        "ratio": 1.0,
        "target_ratio": 40,
        "met": False,
    }
    assert "NOT MET" in str(list(tasks.table([row]).columns[-1].cells)[0])


@pytest.mark.slow
def test_reference_loop_tells_the_split_of_both_sides() -> None:
    reference("lbforaging")
    result = reference_loop.measure(EASY, LearnerSettings(environments=16, epochs=1), 3, 2)
    for side in ("ours", "loop"):
        parts = sum(result[f"{side}_{kind}"] for kind in reference_loop.KINDS)
        assert 0 < parts and result[f"{side}_all"] == pytest.approx(parts, rel=0.3)
    assert result["ratio"] > 1 and result["loop_environment"] > result["ours_environment"]
    shown = str(list(reference_loop.table(result).columns[-1].cells)[-1])
    assert f"target {result['target']}x: {'met' if result['ratio'] >= result['target'] else 'NOT MET'}" in shown


# --- bench.learning ---


def points(*shares: float) -> tuple[Point, ...]:
    return tuple(Point(25_000 * k, share, 2.0 * k) for k, share in enumerate(shares, start=1))


def row(*seeds: tuple[Point, ...]) -> Row:
    return Row("task", "MAPPO", seeds, env_steps=100_000, computed=100_000)


def test_the_share_at_a_mark_is_of_the_last_evaluation_not_after_it() -> None:
    found = row(points(0.1, 0.5, 0.9), points(0.2, 0.6, 0.7))
    assert found.at(74_999) == [0.5, 0.6] and found.at(75_000) == [0.9, 0.7]
    assert found.at(24_999) is None


def test_the_cells_of_a_row() -> None:
    found = row(points(0.1, 0.86, 0.5), points(0.2, 0.85, 0.7))
    assert found.solved() == [Point(50_000, 0.86, 4.0)]
    shown = learning.cells(found, (10_000, 75_000))
    assert shown == ["task", "MAPPO", "2", "-", "0.60 [-0.67, 1.87]", "50 k (1 of 2)", "4 s (1 of 2)", "6 s"]
    assert learning.cells(row(points(0.2)), (25_000,))[3:] == ["0.20", "-", "-", "2 s"]


def test_segments_end_at_whole_rollouts_not_after_the_marks() -> None:
    found = learning.ends(6_400, Sizes(marks=(250_000, 400_000, 1_000_000)))
    assert {249_600, 396_800, 998_400} <= set(found) and found == sorted(set(found))
    assert all(end % 6_400 == 0 for end in found)
    assert learning.ends(64_000, Sizes(marks=(100_000,), segment=50_000)) == [64_000]


def test_evaluations_of_all_sets_count_together() -> None:
    evaluations = [
        Evaluation(env_steps=at, set=name, sparse_returns=returns, progress=None)
        for at, shift in ((50, 0.0), (100, 1.0))
        for name, returns in (("query", (0.0 + shift, 0.0 + shift)), ("screen", (1.0 + shift, 3.0 + shift)))
    ]
    result = SegmentResult(
        id="s",
        parent=None,
        start_env_steps=0,
        end_env_steps=100,
        env_steps=100,
        updates=(),
        evaluations=tuple(evaluations),
        wall_seconds=8.0,
        timings={},
    )
    assert learning.points_of([result], 2.0) == (Point(50, 0.5, 4.0), Point(100, 1.0, 8.0))
    later = result.model_copy(update={"start_env_steps": 0, "wall_seconds": 2.0})
    assert learning.points_of([result, later], 2.0)[2].seconds == 9.0


def test_a_chain_that_was_stopped_goes_on_and_gives_the_same(tmp_path: Path) -> None:
    run, told, sizes = learning.settings(EASY, "mappo", 4), [], Sizes(marks=(400, 800), segment=400)
    run = run.model_copy(update={"learner": run.learner.model_copy(update={"environments": 4})})
    with pytest.raises(RuntimeError, match="killed"):
        learning.chain(_Here(tmp_path / "stopped", lives=1), run, 0, sizes, told.append)
    again = learning.chain(_Here(tmp_path / "stopped"), run, 0, sizes, told.append)
    whole = learning.chain(_Here(tmp_path / "whole"), run, 0, sizes, told.append)
    assert [result.reused for result in again] == [True, False] and told == [400] * 5
    first, second = learning._row(run, [again]), learning._row(run, [whole])
    assert [point.share for point in first.seeds[0]] == [point.share for point in second.seeds[0]]
    assert (first.computed, first.env_steps, second.computed) == (400, 800, 800)
    assert run.evaluation.policy == "greedy" and first.seeds[0][-1].env_steps == 800


BEGIN, END = "<!-- learning: begin -->", "<!-- learning: end -->"


def test_the_table_goes_between_the_markers(tmp_path: Path) -> None:
    text = learning.written([row(points(0.2, 0.9))], (50_000,), "python -m bench.learning --write", 120.0)
    assert "| task | MAPPO | 1 | 0.90 |" in text and "2 minutes" in text and "EPyMARL" in text
    page = tmp_path / "README.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    put(text, "learning", page)
    put(text, "learning", page)
    assert page.read_text() == f"before\n{BEGIN}\n{text}\n{END}\nafter\n"
    page.write_text(f"before\n{BEGIN}\nold\n")
    with pytest.raises(ValueError, match="put them in"):
        put(text, "learning", page)


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["--store", "/home/me/store", "--write"], "--store FOLDER --write"),
        (["--store=/home/me/store"], "--store=FOLDER"),
        (["--store=~/store"], "--store=FOLDER"),
        (["--store", "runs/gate", "--tasks", "talk:a/b"], "--store runs/gate --tasks talk:a/b"),
    ],
)
def test_a_page_names_no_path_of_the_machine(monkeypatch, arguments, shown) -> None:
    monkeypatch.setattr("sys.argv", ["gate", *arguments])
    assert command_of("gate") == f"python -m bench.gate {shown}"


def test_the_page_has_the_markers() -> None:
    page = learning.README.read_text(encoding="utf-8")
    assert page.count(BEGIN) == page.count(END) == 1


def test_a_quick_run_cannot_be_written(monkeypatch, capsys) -> None:
    with pytest.raises(SystemExit):
        output_of(learning, ["--quick", "--write"], monkeypatch, capsys)


def test_the_plot_is_svg_with_a_panel_per_task_and_a_line_per_learner() -> None:
    curves = [
        Curve("one", "MAPPO", (points(0.1, 0.9), points(0.2, 0.8))),
        Curve("one", "A < B", (points(0.0, 0.1),)),
        Curve("two", "QMIX", (points(0.3, 0.4),)),
    ]
    document = minidom.parseString(draw(curves, 0.86, {"one": {25_000: 0.24}}))
    assert len(document.getElementsByTagName("g")) == 2 and len(document.getElementsByTagName("circle")) == 1
    lines = [line.getAttribute("points") for line in document.getElementsByTagName("polyline")]
    assert lines[0] == "150.0,187.0 300.0,33.0"  # means 0.15 and 0.85 of 220 pixels, upwards
    assert len(lines) == 3


# --- bench.segments ---


def test_devices_leaves_the_column_of_a_missing_gpu_empty(monkeypatch, capsys) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    (row,) = json.loads(output_of(segments, ["--devices", "--quick", "--json"], monkeypatch, capsys))
    assert row["cpu"] > 0 and row["cuda"] is None and row["environments"] == 8
    cells = [list(column.cells)[0] for column in devices.table([row]).columns]
    assert cells[:2] == ["8 x 8", "8"] and cells[3:] == ["-", "-"]
    assert list(devices.table([row | {"cpu": 10.0, "cuda": 25.0}]).columns[-1].cells) == ["2.5"]


# --- bench.session ---


def test_session_measures_what_passes_between_answers() -> None:
    row = answers.overhead(answers.PROTOCOLS[2])
    assert row.turns == 15 and 0 < row.cpu and 0 < row.median <= row.worst


# --- bench.faults ---


def test_a_fault_that_does_not_hold_is_named_and_counted() -> None:
    row = faults.Row("401", "openai", "critic", "pauses", "pauses", 1.0, 1, 90.0, ())
    wrong = faults.Row("401", "ollama", "critic", "pauses", "recovers", 7.0, 1, 99.0, ("it took 7 s",))
    assert list(faults.lines([row, wrong])) == [
        ("401", "pauses", "-", "recovers", "1 of 2 | ollama, critic: it took 7 s")
    ]
    assert faults.counts([row, wrong]).startswith("1 of 2 cells hold: 1 faults, 3 protocols; the longest took 7 s")


# --- bench.replies ---


def test_replies_exits_with_1_where_a_case_does_not_hold(monkeypatch, capsys) -> None:
    with pytest.raises(SystemExit) as held:
        output_of(replies, ["--only", "lies", "--quick", "--json"], monkeypatch, capsys)
    rows = json.loads(capsys.readouterr().out)
    assert held.value.code == 0 and len(rows) == 2 and not any(row["problems"] for row in rows)
    monkeypatch.setattr("tests.support.lies.problems", lambda case, ending: ["it was promoted without a pass"])
    with pytest.raises(SystemExit) as missed:
        output_of(replies, ["--only", "lies", "--quick"], monkeypatch, capsys)
    said = capsys.readouterr().out
    assert missed.value.code == 1 and "Held: 0 of 2 lies." in said and "promoted" in said


# --- bench.memory ---


def test_a_peak_is_at_least_what_is_held_now() -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    assert memory.peak_megabytes() >= 0.99 * pages * os.sysconf("SC_PAGESIZE") / 1e6 > 10


@pytest.mark.slow
def test_memory_prints_the_peak_of_a_fresh_process(monkeypatch, capsys) -> None:
    (result,) = json.loads(output_of(memory, ["--quick", "--json"], monkeypatch, capsys))
    assert 50 < result["imported_megabytes"] < result["megabytes"] < memory.TARGET and result["met"]
    assert "NOT MET" in str(list(memory.table([result | {"met": False}]).columns[-1].cells)[0])


def test_tokens_are_counted_with_what_is_new_in_each_request():
    def request(*messages):
        return {"messages": [{"role": "system", "content": "# You are the Critic"}, *messages], "tools": [tool]}

    tool = {"function": {"name": "look", "description": "Looks.", "parameters": {}}}
    asked, told = {"role": "user", "content": "Diagnose."}, {"role": "tool", "content": "one two three"}
    made = {"content": None, "tool_calls": [{"function": {"name": "look", "arguments": "{}"}}]}
    other = {"messages": [{"role": "system", "content": "# You are the Generator"}, asked]}
    exchanges = [(request(asked), made), (other, made), (request(asked, told), {"content": "Done."})]
    first, between, last = tokens.counted(exchanges)
    assert [row.role for row in (first, between, last)] == ["critic", "generator", "critic"]
    assert first.new == first.request and between.new == between.request
    assert last.request - last.new == first.request, "the beginning repeats the request before"
    assert last.new == tokens.count_tokens("one two three") and last.answer == tokens.count_tokens("Done.")
    assert first.answer == tokens.count_tokens("look") + tokens.count_tokens("{}")
    sums = tokens.by_role([first, between, last])
    assert sums["critic"]["calls"] == 2 and sums["validator"] == {"calls": 0, "tokens": 0, "new": 0}


@pytest.mark.slow
def test_the_part_of_the_strong_model_fits_todays_tools():
    rows = tokens.measure(stage_steps=9_600, branch_steps=4_800)
    assert {row.role for row in rows} == set(tokens.ROLES) and len(rows) >= 5
