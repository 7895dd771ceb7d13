"""The transcript: events opened, turns as they were sent and answered, JSON as tables, places and filters."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console
from typer.testing import CliRunner

from learning_signal.ledger.errors import LedgerError
from learning_signal.ledger.read.query import Place, find_place
from learning_signal.ledger.read.reader import Reader
from learning_signal.run import application
from learning_signal.viewer.transcript.lines import render_lines
from learning_signal.viewer.transcript.story import render_entry, render_turns
from learning_signal.viewer.transcript.values import pieces, readable, said
from tests.support.recorded_ledger import RECORDED_ID, recorded_ledger


@pytest.fixture(scope="module")
def ledger(tmp_path_factory):
    return recorded_ledger(tmp_path_factory.mktemp("ledger") / "ledger.db")


def shown(renderable, width: int = 100) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None, highlight=False)
    console.print(renderable)
    return console.file.getvalue()


def words(text: str) -> str:
    return " ".join(text.split())


def printed(ledger, *command: str) -> str:
    result = CliRunner().invoke(application(), ["log", "show", *command, "--ledger", str(ledger)])
    assert result.exit_code == 0, result.output
    return result.output


# values ------------------------------------------------------------------------------------------------------


def test_points_of_metrics_are_a_table_with_a_line_for_each_metric():
    lines = shown(readable({"env_steps": [100, 200], "progress": [0.5, None]})).splitlines()
    assert [line.split() for line in lines] == [["env_steps", "100", "200"], ["progress", "0.5", "-"]]


def test_columns_and_rows_are_a_table_or_a_line_each_where_it_is_too_wide():
    narrow = {"columns": ["name", "low"], "rows": [["spacing", 0.0], ["speed", 1.5]]}
    assert [line.split() for line in shown(readable(narrow)).splitlines()] == [
        ["name", "low"],
        ["spacing", "0.0"],
        ["speed", "1.5"],
    ]
    wide = {"columns": ["name", "about", "left"], "rows": [["spacing", "long " * 40, None]]}
    assert words(shown(readable(wide))) == f"spacing: about {words('long ' * 40)}"


def test_a_shaping_is_a_formula():
    shaping = {"terms": [{"potential": "speed", "weight": -1.0, "scope": "team"}], "beta": 2.0, "anneal": None}
    assert "shaping: beta 2.0: -1.0*speed (team)" in shown(readable({"shaping": shaping}))


@pytest.mark.parametrize("value", [None, True, 0, -1.5, "words", "", [], {}, [[]], [{}], {"a": {}}, [1, {"b": [2]}]])
def test_every_value_is_shown(value):
    assert isinstance(shown(readable(value)), str)
    assert isinstance(shown(readable({"name": value})), str)


def test_numbers_and_words_are_those_that_are_stored():
    value = {"mean": 0.12558570121030344, "deep": [{"list": [{"name": "x" * 200}]}]}
    text = shown(readable(value))
    assert "0.12558570121030344" in text and "x" * 200 in text.replace("\n", "").replace(" ", "")


def test_json_within_words_is_found_and_the_words_around_it_stay():
    text = 'Diagnose this run.\n{"round": 1,\n"left": [2, 3]}\nThe end {not json}.\n[1 step is left]\n{"broken": '
    assert list(pieces(text)) == [
        ("Diagnose this run.\n", {"round": 1, "left": [2, 3]}),
        ('The end {not json}.\n[1 step is left]\n{"broken": ', None),
    ]
    whole = shown(said(text))
    assert "round: 1" in whole and "left: 2, 3" in whole and '{"broken":' in whole


def test_deep_nesting_ends():
    deep = json.loads("[" * 300 + "]" * 300)
    assert "[" in shown(readable(deep))


# events and turns --------------------------------------------------------------------------------------------


def test_an_event_is_one_line_unless_something_went_wrong(ledger):
    with Reader.open(ledger) as reader:
        row, events = reader.session(), reader.events()
    fine = [each for each in events if each.status == "ok"]
    lines = shown(render_lines(row, fine)).splitlines()
    numbered = [line for line in lines if line.startswith("#")]
    assert len(numbered) == len(fine) and lines[-len(fine) :] == numbered and max(map(len, lines)) <= 100
    refused = next(each for each in events if each.status == "refused")
    assert words(refused.title) in words(shown(render_lines(row, [refused])).replace("\n" + " " * 43, "\n"))


def test_a_call_is_shown_as_it_was_sent_and_answered(ledger):
    with Reader.open(ledger) as reader:
        events = reader.events(kind="llm_call", agent="critic", status="ok")
        entry = reader.entry(events[-1].seq)
        text = shown(render_entry(entry))
        (call,) = entry.llm_calls
    assert words(json.loads(call["context"][0])["content"].splitlines()[0]) in text  # the system prompt
    for tool in json.loads(call["tools"]):
        assert tool["name"] in text
    for index in range(1, len(call["context"]) + 1):
        assert f"{index} of {len(call['context'])}, " in text
    assert f"{call['tokens_in']:,} tokens in, {call['tokens_out']:,} out" in text and "reply" in text


def test_a_round_shows_every_turn_and_what_is_sent_again_only_once(ledger):
    with Reader.open(ledger) as reader:
        row = reader.session()
        entries = [reader.entry(each.seq) for each in reader.events(round=1)]
    text = shown(render_turns(row, entries))
    assert text.count("# You are the Critic") == 1 and text.count("# You are the Coordinator") == 1
    assert words(text).count(" out") >= len([call for entry in entries for call in entry.llm_calls])
    assert "Would you promote c1?" in text and '\\"' not in text


def test_the_stored_rows_are_one_option_away(ledger):
    with Reader.open(ledger) as reader:
        event = reader.events(kind="tool_call", tool="submit_proposal")[0]
        arguments = reader.entry(event.seq).tool_calls[0]["arguments"]
    stored = json.dumps(arguments)[1:-1]
    raw, opened = (printed(ledger, f"latest#{event.seq}", *more) for more in (["--raw"], []))
    assert "".join(stored.split()) in "".join(raw.split())
    assert "".join(stored.split())[:80] not in "".join(opened.split())


def test_filters_by_tool_status_and_text(ledger):
    lines = printed(ledger, "--tool", "submit_diagnosis", "--status", "refused").splitlines()
    assert len([line for line in lines if line.startswith("#")]) == 1
    found = [line for line in printed(ledger, "--text", "landmark", "--agent", "critic").splitlines()]
    assert found and all("critic" in line for line in found if line.startswith("#"))


# places ------------------------------------------------------------------------------------------------------


def test_places(ledger):
    with Reader.open(ledger) as reader:
        assert find_place(reader) == find_place(reader, RECORDED_ID[:8]) == Place(RECORDED_ID)
        assert find_place(reader, "latest/R2") == find_place(reader, "latest/2") == Place(RECORDED_ID, round=2)
        for text in ("latest#24", f"{RECORDED_ID}#24", "#24", "24"):
            assert find_place(reader, text) == Place(RECORDED_ID, event=24)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("latest#x", "expected the number of an event"),
        ("latest#999999", "There is no event #999999"),
        ("#" + "9" * 400, "There is no event"),
        ("latest/R99", "expected one of its rounds: R1"),
        ("latest/", "expected a round"),
        ("nothing#24", "There is no session 'nothing'"),
    ],
)
def test_what_is_no_place_is_said(ledger, text, sentence):
    with Reader.open(ledger) as reader, pytest.raises(LedgerError, match=sentence):
        find_place(reader, text)
