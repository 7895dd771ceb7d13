"""A session as Markdown, Parquet and ATIF: the facts in it, text that stays text, and the rules of the format."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
from markdown_it import MarkdownIt
from pydantic import ValidationError
from rich.text import Text

from learning_signal import run
from learning_signal.ledger.read.reader import Reader
from learning_signal.ledger.read.tables.columns import TABLES
from learning_signal.ledger.read.tables.tables import table
from learning_signal.ledger.write.writer import Ledger
from learning_signal.viewer.exports.atif import trajectory
from learning_signal.viewer.exports.markdown import session_markdown
from learning_signal.viewer.exports.markup import escaped, markdown
from tests.support.atif import Trajectory
from tests.support.ledger_helpers import begin
from tests.support.recorded_ledger import RECORDED_ID, hostile_ledger, recorded_ledger

HOSTILE = (
    "<script>alert(1)</script> ![x](http://evil/x.png) [click](javascript:alert(2)) | a | `b` @everyone #1 "
    "https://evil.example www.evil.example **bold** \x1b[31m\u202e &lt;img&gt; $x$ ~~gone~~\n# heading\n- item\n"
    "1. one\n===\n> quote\n    code"
)


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return recorded_ledger(tmp_path_factory.mktemp("ledger") / "ledger.db")


def rendered(text: str) -> str:
    """As CommonMark with GitHub's tables, raw HTML let through."""
    return MarkdownIt("commonmark", {"html": True}).enable("table").render(text)


# markdown --------------------------------------------------------------------------------------------------------


def test_the_report_has_what_the_page_has(ledger: Path) -> None:
    with Reader.open(ledger) as reader:
        report, events = session_markdown(reader), reader.events()
        decisions = reader.decisions()
    page = rendered(report)
    assert [f"<h3>Round {each.round}: {each.action.replace('_', ' ')}</h3>" in page for each in decisions] == [True] * 4
    assert "No agent comes near a landmark." in page and "won 16 of 16 pairs" in page
    heads = re.findall(r"<th[^>]*>([^<]*)</th>", page)
    assert {"gain in sparse return", "c1: progress", "total env steps", "backend"} <= set(heads)
    rows = re.findall(r"<td style=\"text-align:right\">(\d+)</td>\n<td>\d\d:\d\d:\d\d</td>", page)
    assert [int(each) for each in rows] == [each.seq for each in events]
    assert "<details><summary>every event in a line</summary>" in page and page.count("<details>") == 1


def test_hostile_text_becomes_no_markup(tmp_path: Path) -> None:
    path = hostile_ledger(tmp_path / "hostile.db", HOSTILE)
    with Reader.open(path) as reader:
        report, events = session_markdown(reader), len(reader.events())
    page = rendered(report)
    assert "&lt;script&gt;alert(1)" in page and "\x1b" not in page and "\u202e" not in page
    tags = set(re.findall(r"<(\w+)", page))
    assert tags <= {"h1", "h2", "h3", "p", "br", "strong", "table", "thead", "tbody", "tr", "th", "td", "blockquote",
                    "details", "summary"}  # fmt: skip
    assert page.count("<h1>") == 1 and page.count("<strong>bold") == 0
    assert not re.search(r"(?<!\\)@everyone|#1 |https://|www\.evil", report), "nothing that a page links by itself"
    assert page.count("@<!-- -->everyone") >= events


def test_every_character_that_means_something_is_shown_as_it_is() -> None:
    for text in (*HOSTILE.split("\n")[1:], "\\ ` * _ [ ] < > & | ~ $", "2) two", "+ plus", "--", "1.5 is a number"):
        shown = re.sub(r"<!-- -->|</?p>|\n", "", rendered(markdown(Text(text))))
        assert shown == text.strip().replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;"), text
    assert escaped("a_b") == "a\\_b" and markdown(Text("-1.5*x")) == "-1.5\\*x"
    with pytest.raises(TypeError):
        markdown(object())


# parquet ---------------------------------------------------------------------------------------------------------


def test_parquet_has_the_rows_with_types_and_meanings(ledger: Path, tmp_path: Path) -> None:
    from pyarrow import parquet

    assert run.run(["log", "export", "--as", "parquet", "--ledger", str(ledger), "--to", str(tmp_path / "out")]) == 0
    with Reader.open(ledger) as reader:
        for name, columns in TABLES.items():
            stored = parquet.read_table(tmp_path / "out" / f"{name}.parquet")
            assert stored.to_pylist() == table(reader, name, RECORDED_ID)
            assert stored.schema.field("seed").metadata[b"meaning"] == b"its seed"
            types = {str: "string", int: "int64", float: "double", bool: "bool"}
            assert {each.name: str(each.type) for each in stored.schema} == {
                column: types[kind] for column, (kind, _) in columns.items()
            }


def test_without_pyarrow_it_is_one_sentence(
    ledger: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert run.run(["log", "export", "--as", "parquet", "--ledger", str(ledger), "--to", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert "pyarrow is not installed" in said and "pip install -e .[parquet]" in " ".join(said.split())
    assert not (tmp_path / "out").exists()


# atif ------------------------------------------------------------------------------------------------------------


def test_the_trajectory_keeps_the_rules_and_says_what_the_log_says(ledger: Path, tmp_path: Path) -> None:
    to = tmp_path / "trajectory.json"
    assert run.run(["log", "export", "--as", "atif", "--ledger", str(ledger), "--to", str(to)]) == 0
    made = Trajectory.model_validate(json.loads(to.read_text("ascii")))
    with Reader.open(ledger) as reader:
        costs = reader.costs()
        answers = [entry for each in reader.events() if (entry := reader.entry(each.seq)).tool_calls]
    assert made.final_metrics.total_prompt_tokens == costs.tokens_in
    inner = {each.trajectory_id: each for each in made.subagent_trajectories}
    assert f"{RECORDED_ID}/R1/coordinator/validator" in inner, "the Validator that the Coordinator asked"
    replies = [step for each in inner.values() for step in each.steps if step.llm_call_count == 1]
    assert len(replies) == costs.llm_calls
    calls = [call for each in inner.values() for step in each.steps for call in step.tool_calls or ()]
    results = [
        result.content for each in inner.values() for step in each.steps if step.observation
        for result in step.observation.results
    ]  # fmt: skip
    assert len(calls) == len(answers)
    assert sorted(map(str, results)) == sorted(str(entry.tool_calls[0]["result"]) for entry in answers)
    critic = inner[f"{RECORDED_ID}/R1/critic/critic"]
    assert [step.source for step in critic.steps[:3]] == ["system", "agent", "user"]
    assert critic.steps[0].message.startswith("# You are the Critic") and critic.steps[1].llm_call_count == 0
    assert critic.agent.model_name == "served-model" or critic.agent.model_name == "gpt-4.1"
    assert any(step.extra and step.extra.get("error") for step in critic.steps), "the attempt that failed"
    assert {step.extra["kind"] for step in made.steps if step.source == "system"} >= {"decision", "verdict", "session"}


@pytest.mark.parametrize(
    "change",
    [
        lambda made: made["steps"][0].update(note="x"),
        lambda made: made["steps"][1].update(step_id=9),
        lambda made: made["steps"][0].update(metrics={}),
        lambda made: made["subagent_trajectories"].pop(),
        lambda made: made["subagent_trajectories"][0]["steps"][1]["tool_calls"].clear(),
        lambda made: made["steps"][0].update(timestamp="yesterday"),
    ],
)
def test_the_rules_have_teeth(ledger: Path, change) -> None:
    with Reader.open(ledger) as reader:
        made = trajectory(reader)
    Trajectory.model_validate(made)
    change(made)
    with pytest.raises(ValidationError):
        Trajectory.model_validate(made)


def test_a_session_that_has_only_begun_has_a_trajectory_and_a_report(tmp_path: Path) -> None:
    with Ledger.open(tmp_path / "l.db") as ledger, Reader.open(tmp_path / "l.db") as reader:
        session = begin(ledger)
        ledger.event(session, "session", "begins")
        assert len(Trajectory.model_validate(trajectory(reader)).steps) == 1
        assert "Nothing was decided." in session_markdown(reader)
